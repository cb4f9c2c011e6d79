"""The table of options, and what is made of it, without a kernel."""

import inspect
from collections import Counter
from dataclasses import fields, replace

import pytest

from isolated_magic import DockerExecutor
from isolated_magic.errors import OptionError
from isolated_magic.executors.factory import HOMES
from isolated_magic.limits import Limits
from isolated_magic.magic.options import SETTINGS, TABLE, Options
from isolated_magic.magic.parser import help_text, long_flags, parse
from isolated_magic.magic.settings import IsolatedMagic


def parsed(line, **settings):
    return parse(line, IsolatedMagic(**settings).defaults, is_cell=True)


def test_each_field_is_an_option_but_the_one_that_tells_which_were_said():
    assert {field.name for field in fields(Options)} - set(TABLE) == {"said"}


def test_flags_settings_and_limits_are_told_once():
    for told in (
        [flag for option in TABLE.values() for flag in (*option.flags, option.opposite) if flag],
        [option.setting.name for option in TABLE.values() if option.setting],
        [option.limit for option in TABLE.values() if option.limit],
    ):
        assert told
        assert not [one for one, count in Counter(told).items() if count > 1]


def test_what_the_table_names_is_there():
    assert {option.limit for option in TABLE.values() if option.limit} < {field.name for field in fields(Limits)}
    assert set(SETTINGS) < set(IsolatedMagic.class_traits(config=True))
    assert {option.executor for option in TABLE.values()} - {None} < set(HOMES)


def test_the_help_has_each_flag():
    shown = help_text().split()
    for flag in long_flags():
        assert any(flag in word for word in shown), flag


WORDS = [(option, word) for option in TABLE.values() if option.offers == "value" for word in option.words]


@pytest.mark.parametrize(("option", "word"), WORDS, ids=[f"{option.flag} {word}" for option, word in WORDS])
def test_what_completion_offers_is_taken_on_the_line_and_as_a_setting(option, word):
    needed = "--each rows --retries 1 --checkpoint rows.jsonl " if option.of_rows else ""
    on_line = parsed(f"{needed}{option.flag} {word}")
    assert on_line.said
    if option.setting:
        trait = IsolatedMagic.class_traits()[option.setting.name]
        as_setting = parsed("", **{option.setting.name: trait.from_string(word)})
        assert replace(on_line, said=frozenset(), each=None, retries=None, checkpoint=None) == as_setting


def test_the_line_goes_over_the_settings():
    settings = {"timeout_secs": 5, "memory": "1G", "strict": True, "raise_errors": False, "compare": True}
    options = parsed("", **settings)
    assert (options.timeout, options.strict, options.raises, options.compare) == (5, True, False, True)
    assert options.limits == Limits(memory_bytes=1 << 30)
    assert not options.asks_to_compare
    options = parsed("-t 7 --memory none --no-strict --raise --no-compare", **settings)
    assert (options.timeout, options.strict, options.raises, options.compare) == (7, False, True, False)
    assert options.limits == Limits()
    assert options.said == {"timeout", "memory", "strict", "raises", "compare"}
    assert parsed("--compare", **settings).asks_to_compare


def test_values_do_not_show():
    assert "sk-123" not in repr(parsed("-e A=sk-123 --secret B=sk-123 -d c=sk-123"))


@pytest.mark.parametrize("line", ["--timeout nan", "--cpu -1", "--processes 1.5", "--memory 1K", "--out 1x"])
def test_a_wrong_value_is_an_error_that_names_the_option(line):
    with pytest.raises(OptionError, match=f"^{line.replace('.', '[.]')}: "):
        parsed(line)


def test_how_many_rows_run_at_once_can_be_set():
    assert parsed("--each rows", jobs=3).jobs == 3
    assert parsed("--each rows --jobs 2", jobs=3).jobs == 2
    assert parsed("").jobs is None


def test_a_volume_is_a_path_of_this_machine_and_one_of_the_container():
    line = "--executor docker --volume ./data:/data --volume $folder:/y:rw --volume {d['a:b']}:/x"
    assert parsed(line).volumes == (("./data", "/data"), ("$folder", "/y:rw"), ("{d['a:b']}", "/x"))
    assert parsed("", volumes=["/a:/b:ro"]).volumes == (("/a", "/b:ro"),)


def test_a_command_is_split_as_a_shell_would():
    assert parsed("--executor docker --command \"sh -c 'cat > x'\"").command == ("sh", "-c", "cat > x")
    assert parsed("--executor docker --command 'node {file}'").command == ("node", "{file}")
    assert parsed("", command="perl -").command == ("perl", "-")


def test_containers_have_the_same_settings_in_a_notebook_and_in_code():
    in_code = set(inspect.signature(DockerExecutor).parameters) - {"timeout_secs", "limits"}
    of_options = {"image", "network", "volumes", "cpus", "command"}
    assert set(IsolatedMagic().container_settings) | of_options == in_code
    assert DockerExecutor(**IsolatedMagic().container_settings).settings == DockerExecutor().settings
