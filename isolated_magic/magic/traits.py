"""The kinds of settings there are. What one of them refuses, it refuses in a sentence of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traitlets import Bool, Enum, Float, Int, List, TraitError, TraitType, Unicode, Union

if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeAlias

    _Anything: TypeAlias = Any  # traitlets types it no closer

NO_LIMIT = ("none", "inf")
LONGEST_SHOWN = 100  # characters


class _Clear(TraitType):  # type: ignore[type-arg]  # mixed into traits of several types
    """A trait that says what to give instead.

    Args:
        arguments: of the trait.
        wants: what it takes, as in "give a number".
        no_limit: what the words for no limit stand for; anything else than a limit takes no such words.
        options: of the trait.
    """

    def __init__(
        self, *arguments: _Anything, wants: str = "", no_limit: object = ..., **options: _Anything
    ) -> None:
        super().__init__(*arguments, **options)
        self._wants = wants
        self._no_limit = no_limit

    def validate(self, obj: _Anything, value: _Anything) -> _Anything:
        if self._no_limit is not ... and isinstance(value, str) and value.strip().lower() in NO_LIMIT:
            return self._no_limit
        return super().validate(obj, value)  # type: ignore[misc]  # that of the trait that it is mixed into

    def error(
        self,
        obj: object,  # noqa: ARG002 - all of these as traitlets has them
        value: object,
        error: Exception | None = None,  # noqa: ARG002
        info: str | None = None,  # noqa: ARG002
    ) -> NoReturn:
        raise TraitError(f"{self.name} is {as_shown(value)}: give {self._wants}.") from None


class Seconds(_Clear, Float):  # type: ignore[type-arg]  # likewise
    """A number of seconds."""


class Whole(_Clear, Int):  # type: ignore[type-arg]  # likewise
    """A whole number."""


class Text(_Clear, Unicode):  # type: ignore[type-arg]  # likewise
    """A text."""


class Switch(_Clear, Bool):  # type: ignore[type-arg]  # likewise
    """True or False."""


class Choice(_Clear, Enum):  # type: ignore[type-arg]  # traitlets types its values no closer
    """One of a few words."""


class Size(_Clear, Union):
    """A number of bytes, or a text that stands for one."""

    def __init__(self, default: str | None = None, **options: _Anything) -> None:
        super().__init__([Int(), Unicode()], default_value=default, allow_none=True, no_limit=None, **options)


class Names(_Clear, List):  # type: ignore[type-arg]  # likewise
    """A list of names."""


class Preloads(_Clear, Union):
    """What is imported ahead of runs."""


def as_shown(value: object) -> str:
    """The value as an error shows it.

    Args:
        value: anything.
    """
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - too long an integer, or whatever a repr of somebody else's raises
        return f"a value of type {type(value).__name__}"
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."
