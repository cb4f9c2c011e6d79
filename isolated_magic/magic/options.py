"""The options of ``%%isolated`` and ``%isolated`` in one table: the fields of :class:`Options`.

The parser, the settings, the completion, ``--help``, the messages about mistakes and the table of the manual all
read it. A new option is one field there, and the code that uses its value.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from isolated_magic.executors.base import DEFAULT_TIMEOUT_SECS
from isolated_magic.launch.containers.settings import ContainerSettings
from isolated_magic.limits import Limits
from isolated_magic.magic.kinds import (
    CHECKPOINT_MODE,
    CLUSTER,
    COMMAND,
    COUNT,
    CPU,
    CPUS,
    EARLIER,
    EXECUTOR,
    EXECUTORS,
    FAILURES,
    FIELD,
    FILE,
    IMAGE,
    MEMORY,
    NETWORK,
    NO_LIMIT,
    NUMBER,
    PATH,
    PYTHON,
    RATE,
    REFERENCE,
    REQUIREMENT,
    RETRY_ON,
    ROW,
    ROW_FILES,
    ROWS,
    SIZE,
    SIZES,
    SWITCH,
    TEXT,
    TIMEOUT,
    VARIABLE,
    VOLUME,
    WORKERS,
    Kind,
)
from isolated_magic.magic.option import Option, Setting

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from isolated_magic.evaluation.checkpoint import CheckpointMode
    from isolated_magic.executors.factory import ExecutorName

    _Anything: TypeAlias = Any  # a field of whatever type it is annotated with


def _option(*flags: str, help: str, **more: _Anything) -> _Anything:  # noqa: A002 - as argparse calls it
    """A field of :class:`Options`, which is an entry of the table."""
    entry = Option(flags, help, **more)
    default: object = () if entry.repeats else False if entry.kind is SWITCH else None
    # Values stand on the line, and some of them should not be shown.
    return field(default=default, repr=not entry.repeats, metadata={"option": entry})


def _limit(
    flag: str,
    limit: str,
    kind: Kind,
    words: tuple[str, ...],
    *,
    told: str,
    setting: str = "",
    default: str | None = None,
) -> _Anything:
    name = setting or flag.strip("-").replace("-", "_")
    of_runs = Setting(name, default, f"limit of a run: {told}")
    return _option(flag, help=told, kind=kind, limit=limit, words=words, setting=of_runs)


def _of_rows(*flags: str, help: str, **more: _Anything) -> _Anything:  # noqa: A002 - likewise
    """An option of evaluations."""
    return _option(*flags, help=help, of_rows=True, **more)


@dataclass(frozen=True)
class Options:
    """One line of the magic with the settings, not yet resolved: no variable was looked up."""

    env: tuple[str, ...] = _option(
        "-e",
        "--env",
        help="set an environment variable: `NAME=literal`, `NAME=$variable`, `NAME={expression}`, or `NAME` alone "
        "for the notebook's or the kernel's variable of that name, `$dict` for all its items; repeatable",
        manual="A value from the notebook arrives exactly, whatever spaces, quotes or braces it holds; `None` "
        'removes the variable. The reference is the whole value: `{"https://" + host}`, not `https://$host`',
        kind=Kind("NAME=VALUE"),
        repeats=True,
        offers="environment",
    )
    secret: tuple[str, ...] = _option(
        "--secret",
        help="set a variable whose value is hidden in all output: that of the notebook's or the kernel's variable "
        "of that name, or asked for once; `NAME=$variable`, `NAME={expression}` and `$dict` too; repeatable",
        kind=REFERENCE,
        repeats=True,
        offers="environment",
    )
    env_file: tuple[str, ...] = _option(
        "--env-file",
        help="set the variables of a .env file; repeatable",
        manual="`-e` overrides it; the path may be `$variable` or `{expression}`",
        kind=PATH,
        repeats=True,
        offers="file",
        words=(".env",),
    )
    data: tuple[str, ...] = _option(
        "-d",
        "--data",
        help="the names and values of `data`: a notebook variable, `KEY=$variable`, `KEY={expression}`, "
        "`KEY=literal`, a JSON literal, or a .json file; repeatable, merged, later ones win",
        manual="A variable alone is a dict, or a pandas row, a dataclass or a pydantic model; with a key, any "
        "object. A literal is JSON where it is JSON (`n=3`, `on=true`), else text",
        kind=Kind("DATA"),
        repeats=True,
        offers="data",
        words=(".json",),
    )
    payload_type: str | None = _option(
        "--payload-type",
        help="type of the data, such as `trace_thread`: the data is a list, and `score()` gets all of it",
        kind=TEXT,
        words=("trace_thread",),
    )
    file: str | None = _option(
        "--file",
        help="run this file instead of the cell's body; `%isolated run PATH` too",
        kind=PATH,
        offers="file",
        words=(".py",),
    )
    clean_env: bool = _option(
        "--clean-env",
        help="inherit only what an interpreter needs",
        manual="That is `PATH`, `HOME`, the locale, the temporary folder and the library path",
        opposite="--no-clean-env",
        setting=Setting("clean_env", False, "whether a run inherits only what an interpreter needs"),
    )
    timeout: float = _option(
        "-t",
        "--timeout",
        help="kill the run after this many seconds (default 30); `inf` for no limit",
        kind=TIMEOUT,
        words=("5", "10", "30", "60", "300", "inf"),
        setting=Setting("timeout_secs", DEFAULT_TIMEOUT_SECS, "seconds that a run may take; `'inf'` for no limit"),
    )
    bg: bool = _option(
        "--bg",
        help="end the cell at once; its value is the handle of the run",
        manual="The handle, which `-o` keeps too, says `running`, `done` or `failed`; when the run has ended it "
        'shows its output and scores and has what a result has, such as `b["overlap"]`; before, that is a '
        "`StillRunningError`, and `b.result()` waits",
    )
    executor: ExecutorName = _option(  # noqa: RUF009 - a field, as the others
        "--executor",
        help="what runs the code: `isolated`, a new process (default); `process`, a reused worker; `docker`, a "
        "container",
        kind=EXECUTOR,
        words=EXECUTORS,
        setting=Setting("executor", "isolated", f"what runs code: one of {', '.join(map(repr, EXECUTORS))}"),
    )
    image: str | None = _option(
        "--image",
        help="image of the container; it is never pulled",
        kind=IMAGE,
        executor="docker",
        setting=Setting("image", None, "image of the docker executor's containers; `None` for its default"),
    )
    allow_net: bool = _option(
        "--allow-net",
        help="give the container access to the network, which it lacks by default",
        executor="docker",
    )
    network: str | None = _option(
        "--network",
        help="connect the container to this network of the daemon",
        manual="`host` is the network of the daemon's machine, `none` no network",
        kind=NETWORK,
        words=("bridge", "host", "none"),
        executor="docker",
        setting=Setting("network", None, "network of the docker executor's containers; `None` for none"),
    )
    volumes: tuple[tuple[str, str], ...] = _option(
        "--volume",
        help="show this file or folder of the daemon's machine in the container, read-only unless `:rw` follows; "
        "repeatable",
        manual="`./data:/data` or `./data:/data:rw`; HOST may be `$variable` or `{expression}`. With `:rw`, the "
        "user of the container, 65534 unless `docker_user` says otherwise, needs permission to write there",
        kind=VOLUME,
        repeats=True,
        offers="folder",
        executor="docker",
        setting=Setting("volumes", [], "files and folders that the docker executor's containers show"),
    )
    cpus: float = _option(
        "--cpus",
        help="let the container use so many processors, such as `0.5` (default 1)",
        kind=CPUS,
        words=("0.5", "1", "2", "4"),
        executor="docker",
        setting=Setting(
            "cpus", ContainerSettings().cpus, "processors that a container of the docker executor uses"
        ),
    )
    command: tuple[str, ...] | None = _option(
        "--command",
        help="the cell is a program in another language, which this command of the image runs, such as `node -`",
        manual="The program is on the command's stdin, and the data in the file that `ISOLATED_MAGIC_DATA` names. "
        "With `{file}` in the command, the program is in the file that this stands for, and the data is on stdin, "
        "too",
        kind=COMMAND,
        executor="docker",
        setting=Setting("command", None, "what runs the programs of other languages; `None` for Python"),
    )
    fresh: bool = _option("--fresh", help="start a new interpreter instead of using a prepared process")
    packages: tuple[str, ...] = _option(
        "--with",
        help='run with this package, over those of the kernel: `rapidfuzz`, `"rapidfuzz>=3"`, the path of a wheel '
        'or of a folder, or `"-r FILE"`; repeatable',
        manual="uv installs it into an environment that is kept for later runs. A `# /// script` block in the "
        "code (PEP 723) says the same, and then the run has nothing else",
        kind=REQUIREMENT,
        repeats=True,
        setting=Setting("packages", [], "packages that runs have over those of the kernel"),
    )
    python: str | None = _option(
        "--python",
        help="run with this Python: a version such as `3.13`, or the path of an interpreter or of a virtual "
        "environment",
        manual="3.11 or later. The packages are then its own, and those of `--with`",
        kind=PYTHON,
        words=("3.11", "3.12", "3.13", "3.14"),
        setting=Setting("python", None, "the Python of runs; `None` for the kernel's own"),
    )
    bare: bool = _option("--bare", help="have the packages of `--with` and no others")
    upgrade: bool = _option("--upgrade", help="choose the versions of packages anew; else they stay what they are")
    allow_build: bool = _option(
        "--allow-build",
        help="build packages that have no wheel, which runs their code",
        opposite="--no-allow-build",
        setting=Setting("allow_build", False, "whether packages without a wheel are built, which runs their code"),
    )
    out: str | None = _option(
        "-o",
        "--out",
        help="keep the result object in this variable",
        manual="Results of failed runs are kept, too",
        kind=VARIABLE,
    )
    compare: bool | str = _option(
        "--compare",
        help="compare each score with the previous run of this cell, or with a result that was kept with -o",
        manual="With `--each`, rows are compared by their keys, and NAME may be a file that an evaluation was "
        "saved to. A file is compared with the previous run of that file. The output says whether data, "
        "environment or code differ",
        kind=EARLIER,
        may_lack_value=True,
        opposite="--no-compare",
        offers="result",
        setting=Setting("compare", False, "whether scores are shown against those of the cell's run before"),
    )
    save: str | None = _option(
        "--save",
        help="write the cell's body to this .py file, which runs with --file as it does here",
        manual='It is written after the run has succeeded. `%isolated run PATH`, `executor.execute("PATH", ...)` '
        "and, for a metric, Opik itself take the file as it is. The folder has to be there, but for the last one "
        "of a relative path, which is made",
        kind=PATH,
        offers="file",
        words=(".py",),
    )
    raises: bool = _option(
        "--no-raise",
        help="show the error of a failed run instead of raising it",
        const=False,
        opposite="--raise",
        setting=Setting("raise_errors", True, "whether a failed run raises, so that Run All stops there"),
    )
    strict: bool = _option(
        "--strict",
        help="treat a note beside the scores as an error",
        opposite="--no-strict",
        setting=Setting("strict", False, "whether a note beside the scores is an error"),
    )
    no_score: bool = _option(
        "--no-score",
        help="the cell is not meant to have a score: show only what it prints",
        manual="A cell without a score is then no failure and gets no note",
    )
    rich: bool = _option(
        "--no-rich",
        help="show the text form alone of what the run displays",
        manual="Figures, tables and HTML are then in `result.displays` only",
        const=False,
        opposite="--rich",
        setting=Setting(
            "rich", True, "whether figures, tables and HTML of a run are shown; `False` for text alone"
        ),
    )
    help: bool = _option("-h", "--help", help="show this and run nothing", manual="`%%isolated?` too")
    each: str | None = _option(
        "--each",
        help="run the code once for each of these rows: a notebook variable, `$variable`, `{expression}`, or a "
        ".jsonl, .csv or .parquet file",
        manual="A row is `data`, unless `--data` says otherwise, and `row` in the expressions of other options, "
        'such as `-e TENANT={row["tenant"]}`. Rows that fail do not fail the cell',
        kind=ROWS,
        offers="rows",
        words=ROW_FILES,
    )
    row_name: str | None = _of_rows(
        "--as",
        help="what the row is called in expressions (default `row`)",
        kind=VARIABLE,
    )
    on: str | None = _of_rows(
        "--on",
        help="run the rows on a cluster: a Dask client or cluster, or any `concurrent.futures.Executor`, in a "
        "notebook variable, `$variable` or `{expression}`; or the address of a Dask scheduler",
        manual="An address is such as `tcp://scheduler:8786`. A run has the environment of its worker, with "
        "`--env` over it, and its files",
        kind=CLUSTER,
        offers="cluster",
        executor="distributed",
    )
    limit: int | None = _of_rows("--limit", help="take the first N rows alone", kind=NUMBER, words=("5", "20"))
    sample: int | None = _of_rows(
        "--sample", help="take N rows at random, the same ones every time", kind=NUMBER, words=("5", "20")
    )
    jobs: int | None = _of_rows(
        "--jobs",
        help="how many rows run at once (default: one for each processor, or for each thread of the workers)",
        kind=WORKERS,
        words=("1", "2", "4", "8"),
        setting=Setting("jobs", None, "how many rows run at once; `None` for one for each processor"),
    )
    per: str | None = _of_rows(
        "--per",
        help='one process for each value of this, such as `row["tenant"]`, in which its rows run one after the '
        "other; else each row has a process of its own",
        manual="The metric is made once for each value, and its environment is that of the value's first row. "
        'A field\'s name alone, such as `tenant`, stands for `row["tenant"]`, and so for `--key` and `--cluster`',
        kind=FIELD,
        offers="field",
    )
    key: str | None = _of_rows(
        "--key",
        help="what a row is called in checkpoints, comparisons and lists of failures (default: a digest of its "
        "content)",
        kind=FIELD,
        offers="field",
    )
    cluster: str | None = _of_rows(
        "--cluster",
        help="which rows belong together, and are no samples of their own in intervals and comparisons",
        kind=FIELD,
        offers="field",
    )
    repeat: int | None = _of_rows("--repeat", help="run each row N times", kind=NUMBER, words=("3", "5"))
    retries: int | None = _of_rows(
        "--retries",
        help="run a row that failed with an exception up to N times more, each time after a longer wait",
        kind=NUMBER,
        words=("1", "2", "3"),
    )
    retry_on: tuple[str, ...] = _of_rows(
        "--retry-on",
        help="run it again after this exception alone, or after a `timeout`; repeatable",
        kind=RETRY_ON,
        repeats=True,
        words=("timeout", "TimeoutError", "ConnectionError"),
    )
    rate: str | None = _of_rows(
        "--rate",
        help="begin no more runs than this, such as `10/s` or `600/min`, for each value of `--per` where that is "
        "given",
        kind=RATE,
        words=("1/s", "10/s", "60/min"),
    )
    fail_on_error: float | None = _of_rows(
        "--fail-on-error",
        help="stop when N rows have failed, or that share of all, such as `0.1`",
        kind=FAILURES,
        words=("1", "10", "0.1"),
    )
    checkpoint: str | None = _of_rows(
        "--checkpoint",
        help="append each finished row to this file, and go on from it next time",
        manual="Rows that were scored do not run again, failed ones do. It holds no secret; the path may be "
        "`$variable` or `{expression}`",
        kind=FILE,
        offers="file",
        words=(".jsonl",),
    )
    checkpoint_mode: CheckpointMode | None = _of_rows(  # noqa: RUF009 - a field, as the others
        "--checkpoint-mode",
        help="when the code has changed: `resume` keeps what was scored before, `restart` runs all rows anew",
        manual="The old file is kept then, with `.bak` behind its name. Rows that have changed run again anyway",
        kind=CHECKPOINT_MODE,
        words=("resume", "restart"),
    )
    memory: int | None = _limit("--memory", "memory_bytes", MEMORY, SIZES, told="memory")
    cpu: float | None = _limit(
        "--cpu", "cpu_secs", CPU, ("1", "10", "60", NO_LIMIT), told="seconds of processor time", setting="cpu_secs"
    )
    open_files: int | None = _limit(
        "--open-files", "open_files", COUNT, ("64", "256", "1024", NO_LIMIT), told="files open at once"
    )
    file_size: int | None = _limit(
        "--file-size", "file_size_bytes", SIZE, SIZES, told="size of a file that it writes"
    )
    processes: int | None = _limit(
        "--processes", "processes", COUNT, ("1", "16", "64", NO_LIMIT), told="processes at once, threads included"
    )
    max_output: int | None = _limit(
        "--max-output",
        "output_bytes",
        SIZE,
        SIZES,
        told="what it prints and displays; the rest is left out (default 32M)",
        default="32M",
    )
    said: frozenset[str] = frozenset()  # the names of those that are on the line itself

    @property
    def limits(self) -> Limits:
        """What the run may use."""
        given: dict[str, Any] = {entry.limit: getattr(self, name) for name, entry in TABLE.items() if entry.limit}
        return Limits(**given)

    @property
    def is_python(self) -> bool:
        """Whether the code is Python, and no program for a command of an image."""
        return not self.command or self.executor != "docker" or self.on is not None

    @property
    def row(self) -> str:
        """What a row is called in expressions."""
        return self.row_name or ROW

    @property
    def asks_to_compare(self) -> bool:
        """Whether the line says so, and not only a setting."""
        return bool(self.compare) and "compare" in self.said

    @property
    def wants_scores(self) -> bool:
        """Whether the line says what is to become of them."""
        keeps_result = self.out is not None and not self.bg  # else the handle of the run
        return keeps_result or self.each is not None or self.save is not None or self.asks_to_compare


TABLE: dict[str, Option] = {
    one.name: one.metadata["option"] for one in fields(Options) if "option" in one.metadata
}
SETTINGS = {entry.setting.name: entry for entry in TABLE.values() if entry.setting is not None}
