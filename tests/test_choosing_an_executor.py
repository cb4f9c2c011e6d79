"""The notebook about the choice of an executor: its facts in containers too, and what it does without its libraries."""

import json
import sys

import pytest

from isolated_magic.executors.factory import HOMES
from tests import daemon as daemons
from tests.conftest import NOTEBOOKS

CELLS = json.loads((NOTEBOOKS / "choosing_an_executor.ipynb").read_text())["cells"]
IGNORED = "# NBVAL_IGNORE_OUTPUT"


@pytest.fixture
def helpers(monkeypatch):
    """The modules beside the notebook, and no trace of them afterwards."""
    monkeypatch.syspath_prepend(NOTEBOOKS)
    for name in ("tables", "measures", "facts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import facts
    import measures

    yield facts, measures
    for name in ("tables", "measures", "facts"):
        sys.modules.pop(name, None)


@pytest.fixture
def costs(helpers):
    _, measures = helpers
    taken = measures.Costs(80.0, 4.0, 300.0, 4.1)
    return {"isolated": taken, "docker": None, "plain subprocess": measures.Costs(20.0, 20.0, 50.0, None)}


def test_the_facts_are_about_every_strategy(helpers):
    facts, _ = helpers
    assert set(facts.SETTINGS) == set(HOMES) - {"distributed"}  # which keeps apart what isolated does, elsewhere
    assert len({fact.question for fact in facts.FACTS}) == len(facts.FACTS)


@pytest.mark.parametrize("name", ["isolated", "process"])
def test_the_facts_hold(helpers, name):
    facts, _ = helpers
    assert None not in facts.check(name).values()


def test_the_facts_hold_in_containers(helpers, daemon):
    facts, _ = helpers
    said = facts.check_docker(image=daemons.IMAGE, base_url=daemon.url)
    assert said == f"docker: {len(facts.FACTS)} checks ran, each as the table says; 0 could not run here."


def test_another_answer_is_an_error(helpers, monkeypatch):
    facts, _ = helpers
    wrong = [facts.Fact("is it so?", lambda _: False, facts.ALL)]
    monkeypatch.setattr(facts, "FACTS", wrong)
    with pytest.raises(AssertionError, match="isolated: is it so\\? not yes"):
        facts.check("isolated")


def test_without_a_daemon_it_says_so(helpers, tmp_path):
    facts, _ = helpers
    said = facts.check_docker(base_url=f"unix://{tmp_path}/nothing")
    assert said.startswith("docker: not here, so its column was not checked. The container daemon at")


def test_without_the_docker_sdk_it_says_so(helpers, monkeypatch):
    _, measures = helpers
    monkeypatch.setitem(sys.modules, "docker", None)
    assert measures.why_no_docker() == "The docker SDK is not installed."


def test_measuring(helpers, monkeypatch):
    _, measures = helpers
    monkeypatch.setattr(measures, "RATE_SECS", 0.1)
    for strategy in ("isolated", measures.PLAIN):
        taken = measures.measure(strategy)
        assert min(taken.startup, taken.latency, taken.rate) > 0
        assert (taken.memory is None) == (sys.platform != "linux")


def test_the_picture_and_its_description(helpers, costs):
    _, measures = helpers
    shown = measures.show(costs)
    assert shown.data.startswith(b"\x89PNG")
    assert "docker, not here" in shown.alt
    assert "plain subprocess, 20.0, 20.0, 50.0, not known" in shown.alt


def test_without_matplotlib_there_is_the_table(helpers, costs, monkeypatch, capsys):
    _, measures = helpers
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    shown = measures.show(costs)
    assert shown._repr_markdown_().splitlines()[2] == "| isolated | 80.0 | 4.0 | 300 | 4.1 |"
    assert "matplotlib is not installed" in capsys.readouterr().out


def test_what_differs_from_machine_to_machine_is_not_compared():
    for cell in CELLS:
        source = "".join(cell["source"])
        if any(name in source for name in ("measure_all(", "measures.show(", "check_docker(")):
            assert cell["cell_type"] == "code"
            assert source.startswith(IGNORED)
