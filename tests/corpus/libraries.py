"""Libraries of others: what they compute, what they read from the environment, what they leave in the process."""

from tests.corpus.program import Program

BACKEND = """
import matplotlib
seen = [matplotlib.get_backend(), matplotlib.rcParams["backend"], matplotlib.rcParamsDefault["backend"] == matplotlib.rcParams["backend"]]
{"scores": [], "seen": seen}
"""
THREADS = """
import ctypes, os
def openblas_threads():
    paths = {line.split()[-1] for line in open("/proc/self/maps") if "openblas" in line}
    for path in sorted(paths):
        for prefix in ("scipy_", ""):
            for suffix in ("64_", ""):
                get = getattr(ctypes.CDLL(path), f"{prefix}openblas_get_num_threads{suffix}", None)
                if get is not None: return get()
def tasks():
    return len(os.listdir("/proc/self/task"))
def product():
    a = numpy.ones((300, 300))
    return float((a @ a).sum())
"""
OPIK = """
import logging, os
from opik.config import OpikConfig
from opik.evaluation.metrics import BaseMetric, Equals
from opik.evaluation.metrics.score_result import ScoreResult
result = Equals(track=False).score(output="a", reference="a")
config = OpikConfig()
seen = [result.name, result.value, config.console_logging_level, config.sentry_enable, config.url_override, config.project_name]
seen += [[[type(handler).__name__, handler.level] for handler in logging.getLogger("opik").handlers], logging.getLogger("opik").level]
seen += [logging.getLogger().level, len(logging.getLogger().handlers)]
"""
OPIK_SCORES = (
    OPIK
    + """
{"scores": [result], "seen": seen}
"""
)
OPIK_METRIC = (
    OPIK
    + """
print(seen)

class Shorter(BaseMetric):
    def __init__(self):
        super().__init__(name="shorter", track=False)
    def score(self, output: str, reference: str, **ignored) -> ScoreResult:
        return ScoreResult(name=self.name, value=float(len(output) < len(reference)), reason=str(sorted(ignored)))
"""
)

PROGRAMS = [
    Program(
        "numpy_computes",
        """
        import numpy as np
        a = np.arange(12, dtype=float).reshape(3, 4)
        seen = [a.sum(), (a @ a.T).tolist(), np.linalg.det(np.eye(3) * 2), np.fft.fft([1, 0, 0, 0]).real, str(a), repr(np.float64(0.1)), np.float32(1) / 3]
        seen += [np.get_printoptions(), np.geterr(), np.getbufsize(), np.__version__, str(np.array([1 / 3, 1e10, np.nan]))]
        print(a / 7)
        {"scores": [], "seen": [item if not isinstance(item, dict) else {k: str(v) for k, v in item.items()} for item in seen]}
        """,
        needs=("numpy",),
    ),
    Program(
        "numpy_with_options",
        """
        import numpy as np
        np.set_printoptions(precision=2, suppress=True)
        np.seterr(divide="raise")
        try:
            np.array([1.0]) / 0
        except FloatingPointError as problem:
            seen = str(problem)
        {"scores": [], "seen": [str(np.array([1 / 3, 1e-9])), seen]}
        """,
        needs=("numpy",),
    ),
    Program(
        "numpy_warns",
        "import numpy as np\nnp.array([1.0, 0.0]) / 0\nnp.log(np.array([-1.0]))\n0.5",
        needs=("numpy",),
        shows=("RuntimeWarning: divide by zero", "RuntimeWarning: invalid value"),
    ),
    Program(
        "numpy_and_the_filters_of_warnings",
        "import warnings, numpy\n{'scores': [], 'seen': [str(entry) for entry in warnings.filters]}",
        needs=("numpy",),
    ),
    Program(
        "modules_of_numpy",
        "import sys, numpy\n{'scores': [], 'seen': sorted(name for name in sys.modules if name.startswith('numpy'))}",
        launch="cold",
        needs=("numpy",),
    ),
    Program(
        "attributes_of_a_library",
        """
        import sys, numpy
        spec = numpy.__spec__
        seen = [numpy.__file__, numpy.__cached__, type(numpy.__loader__).__name__, spec.origin, spec.submodule_search_locations, numpy.__name__]
        {"scores": [], "seen": [*seen, sys.modules["numpy"] is numpy, numpy.__package__, spec.parent, spec._initializing]}
        """,
        launch="cold",
        needs=("numpy",),
    ),
    Program(
        "threads_of_numpy",
        "import numpy\n" + THREADS + "{'scores': [], 'seen': [openblas_threads(), product(), tasks()]}",
        needs=("numpy",),
        linux=True,
    ),
    *(
        Program(
            f"threads_of_numpy_with_{name.lower()}",
            "import numpy\n" + THREADS + "{'scores': [], 'seen': [openblas_threads(), product(), tasks()]}",
            {name: "1"},
            needs=("numpy",),
            linux=True,
        )
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
    ),
    Program(
        "threads_of_numpy_set_by_the_code",
        "import os\nos.environ['OPENBLAS_NUM_THREADS'] = '1'\nimport numpy\n"
        + THREADS
        + "{'scores': [], 'seen': [openblas_threads(), product(), tasks()]}",
        needs=("numpy",),
        launch="either",
        linux=True,
    ),
    Program(
        "threads_of_numpy_set_too_late_by_the_code",
        "import numpy\nimport os\nos.environ['OPENBLAS_NUM_THREADS'] = '1'\n"
        + THREADS
        + "{'scores': [], 'seen': [openblas_threads(), product(), tasks()]}",
        needs=("numpy",),
        launch="either",
        linux=True,
    ),
    Program(
        "numpy_in_threads",
        """
        import numpy
        from concurrent.futures import ThreadPoolExecutor
        a = numpy.ones((200, 200))
        with ThreadPoolExecutor(2) as pool:
            seen = [float(item.sum()) for item in pool.map(lambda n: a @ a * n, range(3))]
        {"scores": [], "seen": seen}
        """,
        needs=("numpy",),
    ),
    Program(
        "numpy_in_processes",
        """
        import multiprocessing, numpy
        def work(n): return float((numpy.ones((100, 100)) @ numpy.ones((100, 100))).sum() * n)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            seen = pool.map(work, [1, 2])
        {"scores": [], "seen": seen}
        """,
        needs=("numpy",),
    ),
    Program(
        "pandas_computes",
        """
        import io, sys
        import pandas as pd
        frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "x"], "t": pd.date_range("2024-01-01", periods=3, tz="Asia/Tokyo")})
        seen = [frame.groupby("b").a.sum().to_dict(), frame.to_json(date_format="iso"), frame.dtypes.astype(str).to_dict(), str(frame)]
        seen += [pd.read_csv(io.StringIO("a,b\\n1,2\\n")).to_dict("list"), pd.get_option("display.max_rows"), pd.get_option("display.width")]
        pd.set_option("display.max_rows", 3)
        print(frame.describe())
        {"scores": [], "seen": [*seen, "matplotlib" in sys.modules]}
        """,
        launch="cold",
        needs=("pandas",),
    ),
    Program(
        "pydantic_validates",
        """
        import json
        from pydantic import BaseModel, ValidationError, Field
        class Item(BaseModel):
            name: str
            price: float = Field(gt=0)
            tags: list[str] = []
        seen = [Item(name="a", price="1.5").model_dump(), Item.model_json_schema(), repr(Item(name="b", price=2))]
        try:
            Item(name=1, price=-1)
        except ValidationError as problem:
            seen += [problem.error_count(), str(problem)]
        {"scores": [], "seen": seen}
        """,
        needs=("pydantic",),
    ),
    Program(
        "httpx_asks",
        """
        import logging
        import httpx
        logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
        client = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, json={"path": request.url.path})))
        answer = client.get("http://nowhere.invalid/a")
        {"scores": [], "seen": [answer.json(), client.headers["user-agent"], str(client.timeout), client.trust_env]}
        """,
        needs=("httpx",),
    ),
    Program(
        "httpx_reads_proxies_late",
        """
        import os
        import httpx
        from httpx._utils import get_environment_proxies
        before = get_environment_proxies()
        os.environ["HTTPS_PROXY"] = "http://later.invalid:2"
        {"scores": [], "seen": [before, get_environment_proxies()]}
        """,
        {"HTTP_PROXY": "http://proxy.invalid:1", "NO_PROXY": "localhost"},
        needs=("httpx",),
    ),
    Program("matplotlib_backend_svg", BACKEND, {"MPLBACKEND": "svg"}, needs=("matplotlib",)),
    Program("matplotlib_backend_pdf", BACKEND, {"MPLBACKEND": "pdf"}, needs=("matplotlib",)),
    Program("matplotlib_backend_svg_again", BACKEND, {"MPLBACKEND": "svg"}, needs=("matplotlib",)),
    Program(
        "matplotlib_backend_set_by_the_code",
        "import os\nos.environ['MPLBACKEND'] = 'ps'\n" + BACKEND,
        needs=("matplotlib",),
        launch="either",
    ),
    Program(
        "matplotlib_reads_its_file",
        """
        import matplotlib
        {"scores": [], "seen": [matplotlib.matplotlib_fname(), matplotlib.rcParams["lines.linewidth"], matplotlib.get_backend()]}
        """,
        {"MPLBACKEND": "agg"},
        files={"matplotlibrc": "lines.linewidth: 7.5\n"},
        needs=("matplotlib",),
        launch="either",
    ),
    Program(
        "opik_with_warnings",
        OPIK_SCORES,
        {
            "OPIK_CONSOLE_LOGGING_LEVEL": "WARNING",
            "OPIK_SENTRY_ENABLE": "true",
            "OPIK_SENTRY_DSN": "http://key@127.0.0.1:1/1",
        },
        launch="cold",  # Sentry sets sys.excepthook
        needs=("opik",),
    ),
    Program(
        "opik_with_errors_only_and_a_metric",
        OPIK_METRIC,
        {
            "OPIK_CONSOLE_LOGGING_LEVEL": "ERROR",
            "OPIK_SENTRY_ENABLE": "false",
            "OPIK_PROJECT_NAME": "of the corpus",
        },
        data={"output": "ab", "reference": "abc", "more": 1},
        needs=("opik",),
    ),
    Program(
        "dates_in_the_zone_of_the_run",
        """
        import datetime
        import dateutil.tz
        local = dateutil.tz.tzlocal()
        {"scores": [], "seen": [str(local.utcoffset(datetime.datetime(2024, 1, 1))), datetime.datetime(2024, 1, 1, tzinfo=local).isoformat()]}
        """,
        {"TZ": "Asia/Tokyo"},
        seen=["9:00:00", "2024-01-01T00:00:00+09:00"],
        needs=("dateutil",),
    ),
    Program(
        "dotenv_finds_the_file_of_the_folder",
        """
        import os
        from dotenv import find_dotenv, load_dotenv
        seen = [find_dotenv(usecwd=True), load_dotenv(find_dotenv(usecwd=True)), os.environ["CORPUS_DOTENV"], os.environ["CORPUS_SET"]]
        {"scores": [], "seen": seen}
        """,
        {"CORPUS_SET": "set"},
        files={".env": "CORPUS_DOTENV=from the file\nCORPUS_SET=not this\n"},
        needs=("dotenv",),
    ),
    Program(
        "yaml_and_jinja",
        """
        import jinja2, yaml
        {"scores": [], "seen": [yaml.safe_load("a: [1, 2.5, x]"), jinja2.Template("{{ a }}-{{ b|upper }}").render(a=1, b="x")]}
        """,
        seen=[{"a": [1, 2.5, "x"]}, "1-X"],
        needs=("yaml", "jinja2"),
    ),
    Program(
        "rich_measures_the_terminal",
        """
        import rich.console
        console = rich.console.Console()
        console.print("[bold]plain[/bold]", [1, 2], {"a": "x" * 60})
        {"scores": [], "seen": [console.width, console.is_terminal, console.color_system, console.encoding]}
        """,
        {"COLUMNS": "50"},
        needs=("rich",),
    ),
    Program(
        "a_progress_bar",
        "from tqdm import tqdm\nlist(tqdm(range(3), bar_format='{n_fmt}/{total_fmt}', mininterval=0, maxinterval=0))\n0.5",
        needs=("tqdm",),
        shows=("3/3",),
    ),
    Program(
        "requests_as_they_are_prepared",
        """
        import certifi, requests
        request = requests.Request("POST", "http://nowhere.invalid/a", json={"a": 1}, params={"q": "é"}).prepare()
        seen = [request.url, dict(request.headers), request.body.decode(), certifi.where(), requests.utils.getproxies().get("http")]
        {"scores": [], "seen": seen}
        """,
        {"http_proxy": "http://proxy.invalid:1"},
        needs=("requests",),
    ),
    Program(
        "many_libraries_at_once",
        """
        import sys
        import attrs, httpx, jinja2, numpy, pydantic, requests, yaml
        known = sys.stdlib_module_names
        {"scores": [], "seen": sorted({name.partition(".")[0] for name in sys.modules if "isolated_magic" not in name} - known)}
        """,
        launch="cold",
        needs=("attrs", "httpx", "jinja2", "numpy", "pydantic", "requests", "yaml"),
    ),
]
