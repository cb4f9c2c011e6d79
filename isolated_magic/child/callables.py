"""Call a function, a class or an object of plain Python that is to score, with the keys of the data that it takes.

A parameter that has to be given and is no key of the data is an error that names the key it most likely is. A key
that no parameter takes is left out.
"""

from __future__ import annotations

from .metric_arguments import (
    BY_NAME,
    BY_POSITION,
    NAMED,
    REST,
    REST_BY_NAME,
    TRACE_THREAD,
    WHOLE,
    Inputs,
    MetricCallError,
    is_class,
    is_needed,
    listed,
    nearest_key,
    parameters_of,
)
from .metric_kinds import METHODS, is_function, method_of
from .plain import name_of

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any

LANGSMITH = ("inputs", "outputs", "reference_outputs")
DATA_AS_WHOLE = WHOLE | {"d", "entry", "case"}  # names of the only parameter of a function
DICTS = ("dict", "Mapping", "MutableMapping")


class Prepared:
    """One metric that is ready to score.

    Args:
        name: of its class or function, for messages; with parentheses if it is called.
        label: of a score that has no name of its own.
        call: has it score; what it returns may have to be awaited.
        notes: about parameters that the data has not.
        finish: makes of what came back what holds the scores.
    """

    def __init__(
        self,
        name: str,
        label: str,
        call: Callable[[], object],
        notes: list[str],
        finish: Callable[[object], object] | None = None,
    ) -> None:
        self.name, self.label, self.call, self.notes = name, label, call, notes
        self.finish = finish or (lambda value: value)


def evaluates_run(function: object) -> bool:
    """Whether a function is an evaluator of LangSmith that takes a run or an example."""
    needs = _needs(function)
    return bool(needs & {"run", "example"}) and needs <= {"run", "example", *LANGSMITH}


def is_for_langsmith(function: object) -> bool:
    """Whether the parameters of a function are those of LangSmith's evaluators and of nothing else."""
    needs = _needs(function)
    return needs == {"run", "example"} or ({"outputs", "reference_outputs"} <= needs <= {*LANGSMITH})


def _needs(function: object) -> set[str]:
    parameters = parameters_of(function) or ()
    return {parameter.name for parameter in parameters if is_needed(parameter, {BY_POSITION, *NAMED})}


def takes_data(function: object, inputs: Inputs) -> bool:
    """Whether a function can be called with the data; of a class nothing is known before there is an object."""
    try:
        return is_class(function) or bool(bind("", function, inputs))
    except MetricCallError:
        return False


def takes_keys(function: object, inputs: Inputs) -> bool:
    """Whether a function can be called with the data and takes at least one of its keys by name."""
    parameters = parameters_of(function)
    if parameters is None or inputs.is_whole:
        return False
    names = {parameter.name for parameter in parameters if parameter.kind in NAMED}
    needs = [parameter.name for parameter in parameters if is_needed(parameter, {BY_POSITION, *NAMED})]
    return not names.isdisjoint(inputs.items) and all(name in inputs.items for name in needs)


def bind(caller: str, function: Any, inputs: Inputs) -> tuple[Callable[[], object], list[str]]:  # noqa: ANN401 - the code's own
    """The call of a function with what it takes of the data, and notes about what it does without.

    Raises:
        MetricCallError: it cannot be called with the data.
    """
    parameters = parameters_of(function)
    if parameters is None:
        return lambda: function(inputs.data), []
    if inputs.is_whole:
        return _bind_whole(caller, function, parameters, inputs)
    given = getattr(function, "keywords", None) or {}  # of a partial
    items = {key: value for key, value in inputs.items.items() if key not in given}
    needs = [parameter.name for parameter in parameters if is_needed(parameter, {BY_POSITION, *NAMED})]
    missing = [name for name in needs if name not in items]
    if len(needs) == len(missing) == 1:
        needed = next(parameter for parameter in parameters if parameter.name == needs[0])
        if needed.kind == BY_POSITION or _means_data(needed):
            by_name = {one.name for one in parameters if one.kind in NAMED} & items.keys()
            rest = {key: items[key] for key in items if key in by_name}
            if needed.kind == BY_NAME:
                return lambda: function(**{needed.name: inputs.data}, **rest), []
            return lambda: function(inputs.data, **rest), []
    takes = [parameter.name for parameter in parameters if parameter.kind not in {REST, REST_BY_NAME}]
    if missing:
        raise inputs.missing(caller, missing, takes)
    if any(parameter.kind == REST for parameter in parameters) and items.keys().isdisjoint(takes):
        return lambda: function(inputs.data), []
    positional: list[object] = []
    for parameter in parameters:
        if parameter.kind != BY_POSITION or parameter.name not in items:
            break
        positional.append(items[parameter.name])
    takes_rest = any(parameter.kind == REST_BY_NAME for parameter in parameters)
    by_position = {parameter.name for parameter in parameters if parameter.kind == BY_POSITION}
    named = {key: value for key, value in items.items() if key not in by_position and (takes_rest or key in takes)}
    return lambda: function(*positional, **named), [] if takes_rest else _notes(
        caller, items, takes, given, inputs
    )


def _bind_whole(
    caller: str,
    function: Any,  # noqa: ANN401 - the code's own
    parameters: Sequence[Any],
    inputs: Inputs,
) -> tuple[Callable[[], object], list[str]]:
    """The call with all of the data as the only argument."""
    needs = [parameter for parameter in parameters if is_needed(parameter, {BY_POSITION, *NAMED})]
    by_position = [parameter for parameter in parameters if parameter.kind not in {BY_NAME, REST_BY_NAME}]
    if len(needs) == 1 and needs[0].kind == BY_NAME:
        return lambda: function(**{needs[0].name: inputs.data}), []
    if by_position and len(needs) <= 1 and not any(parameter.kind == BY_NAME for parameter in needs):
        return lambda: function(inputs.data), []
    takes = listed([parameter.name for parameter in parameters]) or "nothing"
    what = "a thread" if inputs.payload_type == TRACE_THREAD else "no dict"
    raise MetricCallError(
        f"TypeError: {caller} cannot be called with the data alone: it takes {takes}.",
        f"The data is {what}, so it gets all of it as its only argument.",
    )


def _means_data(parameter: Any) -> bool:  # noqa: ANN401 - of inspect, which is not imported here
    """Whether the only parameter stands for the data as a whole."""
    if parameter.name.lower() in DATA_AS_WHOLE:
        return True
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return text.partition("[")[0].rpartition(".")[2] in DICTS


def _notes(
    caller: str, items: dict[str, object], takes: list[str], given: Collection[str], inputs: Inputs
) -> list[str]:
    """Notes about optional parameters that a key of the data was most likely meant for."""
    unused = [key for key in items if key not in takes]
    left = [name for name in takes if name not in items and name not in given]
    if not unused:
        return []
    return [
        f"{caller} does not take {listed([key])}, and {name} is not in the data: its default was used. "
        f"Map it: {inputs.hint.mapping(name, key)}"
        for name in left
        for key, is_likely in [nearest_key(name, unused)]
        if is_likely
    ]


def prepare(metric: Any, label: str, inputs: Inputs) -> Prepared:  # noqa: ANN401 - the code's own
    """A function, a class or an object of plain Python, ready to score.

    Args:
        metric: of which :func:`is_function` or :func:`method_of` says that it is one.
        label: what the code calls it; empty if unknown.
        inputs: of the run.

    Raises:
        MetricCallError: it cannot be called with the data.
    """
    if is_function(metric):
        name = name_of_function(metric)
        caller = f"{label or name or 'the function'}()"
        call, notes = bind(caller, metric, inputs)
        return Prepared(caller, label or name, call, notes)
    kind = type(metric)
    method = method_of(kind)
    name = name_of(kind)
    function = getattr(metric, method[0]) if method else metric
    caller = f"{name}.{method[0]}()" if method and method[0] != "__call__" else f"{name}()"
    call, notes = bind(caller, function, inputs)
    own_name = getattr(metric, "name", None)
    return Prepared(caller, own_name if isinstance(own_name, str) and own_name else label or name, call, notes)


def name_of_function(function: Any) -> str:  # noqa: ANN401 - the code's own
    """The name of a function, or of what it is a method of; empty for a lambda."""
    while name_of(type(function)) == "partial":
        function = function.func
    name = getattr(function, "__name__", "")
    owner = getattr(function, "__self__", None)
    if name in METHODS and owner is not None:
        name = name_of(owner if is_class(owner) else type(owner))
    return "" if not isinstance(name, str) or name == "<lambda>" else name
