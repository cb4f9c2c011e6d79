"""How each library has its metrics score: what its own ``evaluate`` passes to them, made of the data of the run.

Nothing is imported that the code has not imported: classes of samples and test cases come from modules that are
loaded, or from the package that the metric itself comes from.
"""

from __future__ import annotations

import sys

from . import modules
from .callables import LANGSMITH, Prepared, bind
from .library_scores import DEEPEVAL_DEFAULTS
from .metric_arguments import (
    TRACE_THREAD,
    Inputs,
    MetricCallError,
    about_missing,
    listed,
    nearest_key,
    parameters_of,
)
from .plain import library_of, mro_of, name_of, names_in

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Any

# Fields of samples whose names mean something else in most metrics, such as self.name.
NOT_READ = frozenset({"name", "metadata", "comments", "tags", "flaky", "multimodal", "voice"})
RAGAS_ROLES = {"user": "human", "human": "human", "assistant": "ai", "ai": "ai", "tool": "tool"}


def prepare(library: str, metric: Any, inputs: Inputs) -> Prepared:  # noqa: ANN401 - of that library
    """A metric of one of these libraries, ready to score.

    Raises:
        MetricCallError: it cannot score the data.
    """
    prepared: Prepared = PREPARE[library](metric, inputs)
    return prepared


def _imported(name: str) -> Any:  # noqa: ANN401 - a module
    """A module of a package that the code has imported."""
    found = sys.modules.get(name)
    if found is None:
        __import__(name)
        found = sys.modules[name]
    return found


def _deepeval(metric: Any, inputs: Inputs) -> Prepared:  # noqa: ANN401 - a metric
    cases = _imported("deepeval.test_case")
    kind = type(metric)
    name = name_of(kind)
    is_conversation = any(name_of(base) == "BaseConversationalMetric" for base in mro_of(kind))
    items = dict(inputs.items)
    if is_conversation:
        thread = inputs.data if inputs.is_whole else items.get("turns")
        if thread is not None:
            items["turns"] = _messages(name, thread, cases.Turn)
    elif inputs.is_whole:
        raise _no_thread(name, "single turns", "BaseConversationalMetric")
    required = [_value_of_enum(one) for one in _items(getattr(metric, "_required_params", None))]
    required += [_value_of_enum(one) for one in _items(getattr(metric, "evaluation_params", None))]
    sample = cases.ConversationalTestCase if is_conversation else cases.LLMTestCase
    made, notes = _sample(f"{name}.measure()", sample, items, required, _names_read(kind, "deepeval"), inputs)
    quiet = {"_show_indicator": False} if _takes(metric.measure, "_show_indicator") else {}

    def measure() -> object:
        if not _is_own(kind, "measure", "deepeval") and _is_own(kind, "a_measure", "deepeval"):
            return metric.a_measure(made)
        try:
            return metric.measure(made, **quiet)
        except NotImplementedError:
            if not _is_own(kind, "a_measure", "deepeval"):
                raise
        return metric.a_measure(made)

    def finish(value: object) -> object:
        if getattr(metric, "score", None) is None:
            metric.score = value
        if getattr(metric, "success", None) is None:
            succeeded = metric.is_successful()
            metric.success = succeeded if metric.success is None else metric.success
        return metric

    return Prepared(f"{name}.measure()", _label(metric, name), measure, notes, finish)


def _ragas(metric: Any, inputs: Inputs) -> Prepared:  # noqa: ANN401 - a metric
    """A metric that scores samples."""
    schema = _imported("ragas.dataset_schema")
    kind = type(metric)
    name = name_of(kind)
    bases = {name_of(base) for base in mro_of(kind) if library_of(base) == "ragas"}
    items = dict(inputs.items)
    thread = inputs.data if inputs.is_whole else items.get("user_input")
    is_conversation = "MultiTurnMetric" in bases and (
        "SingleTurnMetric" not in bases or type(thread) is list or type(thread) is tuple
    )
    if not is_conversation and inputs.is_whole:
        raise _no_thread(name, "single turns", "MultiTurnMetric")
    if is_conversation and thread is not None:
        items["user_input"] = _ragas_messages(name, thread)
    turns = "multi_turn" if is_conversation else "single_turn"
    required = sorted(metric.required_columns.get(turns.upper(), ()))
    read = _names_read(kind, "ragas")
    sample = schema.MultiTurnSample if is_conversation else schema.SingleTurnSample
    caller = f"{name}.{turns}_ascore()"
    made, notes = _sample(caller, sample, items, required, read, inputs)

    def score() -> object:
        metric.init(_imported("ragas.run_config").RunConfig())
        return getattr(metric, f"{turns}_ascore")(made)

    return Prepared(caller, _label(metric, name), score, notes)


def _ragas_simple(metric: Any, inputs: Inputs) -> Prepared:  # noqa: ANN401 - a metric
    """A metric that takes keyword arguments: also what ``@numeric_metric`` and its siblings make of a function."""
    label = _label(metric, name_of(type(metric)))
    function = getattr(metric, "_func", None)
    is_async = _is_own(type(metric), "ascore", "ragas.metrics.base", "ragas.metrics.collections.base")
    method = metric.ascore if is_async else metric.score
    caller = f"{label}()" if function is not None else f"{name_of(type(metric))}.{method.__name__}()"
    call, notes = bind(caller, method if function is None else _as(function, method), inputs)
    return Prepared(caller, label, call, notes)


def _autoevals(metric: Any, inputs: Inputs) -> Prepared:  # noqa: ANN401 - a metric
    kind = type(metric)
    name = name_of(kind)
    call, notes = bind(f"{name}()", _as(metric._run_eval_sync, metric), inputs)
    return Prepared(f"{name}()", metric._name(), call, notes)


def _mlflow(metric: Any, inputs: Inputs) -> Prepared:  # noqa: ANN401 - a metric
    label = _label(metric, name_of(type(metric)))
    function = getattr(metric, "_original_func", None) or metric.__call__
    if inputs.payload_type == TRACE_THREAD and _takes(function, "session"):
        return Prepared(f"{label}()", label, lambda: metric(session=inputs.data), [])
    call, notes = bind(f"{label}()", _as(function, metric), inputs)

    def finish(value: Any) -> object:  # noqa: ANN401 - whatever it returned
        if isinstance(value, str):  # such as "yes": as MLflow itself, which makes feedback of all plain values
            return _imported("mlflow.entities").Feedback(name=label, value=value)
        if name_of(type(value)) == "Feedback" and getattr(value, "name", None) == "feedback":  # its default
            value.name = label
        return value

    return Prepared(f"{label}()", label, call, notes, finish)


def _phoenix(metric: Any, inputs: Inputs) -> Prepared:  # noqa: ANN401 - an evaluator
    kind = type(metric)
    label = _label(metric, name_of(kind))
    if inputs.is_whole:
        raise _no_thread(label, "a dict", "")
    schema = metric.input_schema
    mapping: dict[str, object] = getattr(metric, "_input_mapping", None) or {}
    notes: list[str] = []
    if schema is not None:
        fields = schema.model_fields
        missing = [
            field
            for field, kind_of_field in fields.items()
            if kind_of_field.is_required() and field not in inputs.items and field not in mapping
        ]
        if missing:
            raise inputs.missing(f"{label}.evaluate()", missing, list(fields))
    elif not mapping:  # without either, Phoenix does not know which keys it may pass on
        mapping = {key: key for key, value in inputs.items.items() if value is not None and value != ""}
    is_async = name_of(kind) == "_AsyncFunctionEvaluator" or _is_own(kind, "_async_evaluate", "phoenix")
    evaluate = metric.async_evaluate if is_async else metric.evaluate
    return Prepared(
        f"{label}.evaluate()", label, lambda: evaluate(inputs.items, input_mapping=mapping or None), notes
    )


def _langsmith(metric: Any, inputs: Inputs) -> Prepared:  # noqa: ANN401 - an evaluator
    kind = type(metric)
    label = getattr(metric, "_name", None) or name_of(kind)
    run, example, notes = _run_and_example(f"{label}()", inputs)
    is_async = getattr(metric, "is_async", False) is True or (
        _is_own(kind, "aevaluate_run", "langsmith") and not _is_own(kind, "evaluate_run", "langsmith")
    )
    evaluate = metric.aevaluate_run if is_async else metric.evaluate_run
    return Prepared(f"{label}()", label, lambda: evaluate(run, example), notes)


def prepare_evaluator(function: Any, label: str, inputs: Inputs) -> Prepared:  # noqa: ANN401 - the code's own
    """A function that evaluates a run, ready to score."""
    caller = f"{label or 'the function'}()"
    run, example, notes = _run_and_example(caller, inputs)
    items = {**inputs.items, "run": run, "example": example}
    call, _ = bind(caller, function, Inputs(items, inputs.payload_type, inputs.hint))
    return Prepared(caller, label, call, notes)


PREPARE: dict[str, Callable[[Any, Inputs], Prepared]] = {
    "deepeval": _deepeval,
    "ragas": _ragas,
    "ragas_simple": _ragas_simple,
    "autoevals": _autoevals,
    "mlflow": _mlflow,
    "phoenix": _phoenix,
    "langsmith": _langsmith,
}


def _label(metric: object, otherwise: str) -> str:
    name = getattr(metric, "name", None)
    if isinstance(name, str) and name:
        return name
    name = getattr(metric, "__name__", None)  # deepeval: a property, which its base class has too
    return name if isinstance(name, str) and name and name not in DEEPEVAL_DEFAULTS else otherwise


def _as(signature: object, function: Any) -> Callable[..., object]:  # noqa: ANN401 - of the metric
    """A function that is called instead of another one, and takes what that one takes."""

    def call(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    inspect = modules.standard_module("inspect")
    call.__signature__ = inspect.signature(signature)  # type: ignore[attr-defined]  # of a function
    return call


def _is_own(kind: object, method: str, *libraries: str) -> bool:
    """Whether a class has the method from somewhere else than these libraries or modules."""
    home = next((base for base in mro_of(kind) if method in names_in(base)), object)
    module = names_in(home).get("__module__")
    name = module if type(module) is str else ""
    return home is not object and not any(name == one or name.startswith(f"{one}.") for one in libraries)


def _takes(function: object, name: str) -> bool:
    return any(parameter.name == name for parameter in parameters_of(function) or ())


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple, set)) else []


def _value_of_enum(member: object) -> str:
    return str(getattr(member, "value", member))


def _names_read(kind: object, library: str) -> frozenset[str]:
    """The names of attributes that the methods of a metric read, as far as its class is not the library's."""
    inspect = modules.standard_module("inspect")
    found: set[str] = set()
    for base in mro_of(kind):
        if library_of(base) in {library, "builtins", "abc"}:
            continue
        for value in list(names_in(base).values()):
            if name_of(type(value)) == "function":
                found.update(_names_in_code(inspect.unwrap(value).__code__))
    return frozenset(found - NOT_READ)


def _names_in_code(code: Any) -> Iterable[str]:  # noqa: ANN401 - of a function
    yield from code.co_names
    for constant in code.co_consts:
        if hasattr(constant, "co_names"):
            yield from _names_in_code(constant)


def _sample(
    caller: str,
    kind: Any,  # noqa: ANN401 - a class of pydantic
    items: dict[str, object],
    required: Collection[str],
    read: Collection[str],
    inputs: Inputs,
) -> tuple[object, list[str]]:
    """A sample or test case of the data, and notes about fields that the metric reads and the data has not.

    Raises:
        MetricCallError: a value is missing or of the wrong type. A field that the metric reads is missing if a key
            of the data is most likely meant for it.
    """
    fields = kind.model_fields
    unused = [key for key in items if key not in fields]
    needs = dict.fromkeys([*(name for name, field in fields.items() if field.is_required()), *required])
    missing = [name for name in needs if items.get(name) is None]
    absent = [name for name in fields if name in read and name not in items and name not in needs]
    missing += [name for name in absent if unused and nearest_key(name, unused)[1]]
    if missing:
        raise inputs.missing(caller, missing, list(fields))
    notes = [about_missing(name, ": None was passed.", list(items), list(fields), inputs.hint) for name in absent]
    try:
        return kind(**{name: value for name, value in items.items() if name in fields}), notes
    except Exception as problem:  # noqa: BLE001 - pydantic's, which is not imported here
        raise _invalid(caller, kind, problem) from None


def _invalid(caller: str, kind: object, problem: Any) -> MetricCallError:  # noqa: ANN401 - an exception of pydantic
    errors = problem.errors() if hasattr(problem, "errors") else []
    what = [f"{'.'.join(map(str, one.get('loc', ())))}: {one.get('msg', '')}".lstrip(": ") for one in errors]
    said = ("; ".join(what[:3]) or str(problem)).rstrip(".")
    return MetricCallError(
        f"TypeError: {caller} gets {name_of(kind)}(), which cannot be made of the data: {said}.",
        "Hand over values of these types under these names.",
    )


def _no_thread(name: str, what: str, base: str) -> MetricCallError:
    remedy = f"A metric that scores threads is a subclass of {base}." if base else "Hand over a dict as data."
    return MetricCallError(f"TypeError: {name} scores {what}, and the data is a thread.", remedy)


def _messages(name: str, thread: Any, kind: Any) -> list[object]:  # noqa: ANN401 - the data; a class of pydantic
    """The messages of a thread as turns."""
    turns: list[object] = []
    for index, message in enumerate(thread):
        if not isinstance(message, dict):
            raise _no_message(name, index, message)
        known = {key: value for key, value in message.items() if key in kind.model_fields}
        try:
            turns.append(kind(**known))
        except Exception as problem:  # noqa: BLE001 - pydantic's, which is not imported here
            raise _invalid(f"{name}, for message {index} of the thread,", kind, problem) from None
    return turns


def _ragas_messages(name: str, thread: Any) -> list[object]:  # noqa: ANN401 - the data
    messages: list[object] = []
    for index, message in enumerate(thread):
        if not isinstance(message, dict):
            raise _no_message(name, index, message)
        role = message.get("type", message.get("role"))
        if role not in RAGAS_ROLES:
            raise MetricCallError(
                f"TypeError: {name} cannot score message {index} of the thread: its role is not one of "
                f"{listed([*RAGAS_ROLES])}.",
                "Leave messages of other roles out.",
            )
        rest = {key: value for key, value in message.items() if key != "role"}
        messages.append({**rest, "type": RAGAS_ROLES[role]})
    return messages


def _no_message(name: str, index: int, message: object) -> MetricCallError:
    return MetricCallError(
        f"TypeError: {name} cannot score message {index} of the thread: {type(message).__name__}, not dict.",
        'Each message is a dict, such as {"role": "user", "content": "..."}.',
    )


def _run_and_example(caller: str, inputs: Inputs) -> tuple[object, object, list[str]]:
    """What an evaluator of LangSmith gets: a run with inputs and outputs, an example with those that are right."""
    if inputs.is_whole:
        raise _no_thread(caller, "a run and an example", "")
    items = inputs.items
    if not {"run", "example", *LANGSMITH}.intersection(items):
        raise inputs.missing(caller, ["outputs", "reference_outputs"], LANGSMITH)
    run = _part(items.get("run"), {"inputs": items.get("inputs"), "outputs": items.get("outputs")})
    right = {"inputs": items.get("inputs", run["inputs"]), "outputs": items.get("reference_outputs")}
    example = _part(items.get("example"), right)
    lacking = [] if run["outputs"] is not None else ["outputs"]
    lacking += [] if example["outputs"] is not None else ["reference_outputs"]
    keys = list(items)
    unused = [key for key in keys if key not in {"run", "example", *LANGSMITH}]
    meant = [name for name in lacking if unused and nearest_key(name, unused)[1]]
    if meant:
        raise inputs.missing(caller, meant, ["run", "example", *LANGSMITH])
    notes = [about_missing(name, ": None was passed.", keys, LANGSMITH, inputs.hint) for name in lacking]
    return *_as_schemas(caller, run, example), notes


def _part(given: object, otherwise: dict[str, object]) -> dict[str, object]:
    found = given if isinstance(given, dict) else otherwise
    # What a target returned that is no dict, LangSmith puts into one.
    return {
        name: value if value is None or isinstance(value, dict) else {name.removesuffix("s"): value}
        for name in ("inputs", "outputs")
        for value in [found.get(name)]
    }


def _as_schemas(caller: str, run: dict[str, object], example: dict[str, object]) -> tuple[object, object]:
    """As the classes of LangSmith if the code has imported them, else as objects with the same attributes."""
    schemas = sys.modules.get("langsmith.schemas")
    if schemas is None:
        namespace: Any = type(sys.implementation)  # as types.SimpleNamespace, whose module is not loaded
        return namespace(name="run", error=None, **run), namespace(metadata=None, attachments=None, **example)
    no_id = modules.standard_module("uuid").UUID(int=0)
    now = modules.standard_module("datetime").datetime.fromtimestamp(0)
    common: dict[str, Any] = {
        "id": no_id,
        "name": "run",
        "run_type": "chain",
        "start_time": now,
        "trace_id": no_id,
    }
    inputs = run["inputs"] or {}
    try:
        return (
            schemas.Run(**common, inputs=inputs, outputs=run["outputs"]),
            schemas.Example(
                id=no_id, dataset_id=no_id, inputs=example["inputs"] or {}, outputs=example["outputs"]
            ),
        )
    except Exception as problem:  # noqa: BLE001 - pydantic's, which is not imported here
        raise _invalid(caller, schemas.Run, problem) from None
