"""The closed list of switches: which scopes and values each takes, and how several claims become one value. Pure.

Switches of the vector plane:

| switch       | scope                        | value                                                              |
|--------------|------------------------------|--------------------------------------------------------------------|
| `read_share` | `target` or `target/name`    | 0-100: the greatest share of reads that this target may get        |
| `writes`     | `target` or `target/name`    | "hold": writes to it are refused with 503 and Retry-After          |

`name` is a collection or alias as it stands in the request path.

Switches of the LLM plane. A route is meant by its name, all of them by `*`, the calls of one tenant by `tenant:NAME`:

| switch            | scope                         | value                                                            |
|-------------------|-------------------------------|------------------------------------------------------------------|
| `llm_prefer`      | route, `*`                    | a provider: it is asked first                                    |
| `llm_avoid`       | provider or provider/model    | "avoid": asked when nobody else is left; "never": not even then  |
| `llm_share`       | provider or provider/model    | 0-100: the share of calls in which it is not avoided             |
| `llm_cache`       | route, `*`, tenant            | "first": a kept answer of any age is taken if there is one;      |
|                   |                               | "only": nobody is asked                                          |
| `llm_tier`        | route, `*`, tenant            | "cheaper": the route's cheaper models are asked first            |
| `llm_static`      | route, `*`, tenant            | 1-100, or "on": the share of calls that nobody is asked for      |
| `llm_concurrency` | route, `*`                    | from 1: calls underway at the same time; the others wait         |
| `llm_kill`        | `tenant:X` `route:X` `tool:X` | "kill": refused with 403, and ended where it is underway         |
|                   | `*`                           |                                                                  |
| `llm_rate`        | as `llm_kill`                 | from 0: calls a minute; the others are refused with 429          |

Several claims on one switch and scope: the most careful one wins, so that ending one cause never clears another's.
Of preferences the latest one wins, since none is more careful than another.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reanimate.errors import InputInvalid

__all__ = ["COMBINE", "KINDS", "Kind", "checked_value"]

_SUBJECTS = ("tenant", "route", "tool")


@dataclass(frozen=True)
class Kind:
    """One switch."""

    takes: str
    """Its values, in words."""
    combine: Callable[[Iterable[Any]], Any]
    """Several values into one."""
    read: Callable[[Any], Any]
    """A value as it is kept; raises ValueError or TypeError for what is none."""
    fits: Callable[[str], bool] = bool
    """Whether a scope can be one of this switch."""
    scopes: str = "a target, or target/collection"


def _whole(least: int, most: int | None = None) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError("not a whole number")
        number = int(value)
        if number < least or (most is not None and number > most):
            raise ValueError("out of bounds")
        return number

    return read


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError("none of these")
        return str(value)

    return read


def _most_careful(*careful_last: str) -> Callable[[Iterable[Any]], str]:
    """Of words that are listed from harmless to careful, return the most careful that is claimed."""
    return lambda values: max(map(str, values), key=careful_last.index)


def _latest(values: Iterable[Any]) -> Any:
    *_, last = values
    return last


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("not a name")
    return value


def _static_share(value: Any) -> int:
    return 100 if value == "on" else _whole(1, 100)(value)


def _is_subject(scope: str) -> bool:
    kind, _, name = scope.partition(":")
    return scope == "*" or (kind in _SUBJECTS and bool(name))


_ROUTES = "a route, *, or tenant:NAME"
_PROVIDERS = "a provider, or provider/model"
_SUBJECT_SCOPES = "tenant:NAME, route:NAME, tool:NAME or *"
_SHARE = "0-100"

KINDS: dict[str, Kind] = {
    "read_share": Kind(_SHARE, min, _whole(0, 100)),
    "writes": Kind("hold or allow", _most_careful("allow", "hold"), _one_of("allow", "hold")),
    "llm_prefer": Kind("a provider", _latest, _name, scopes="a route, or *"),
    "llm_avoid": Kind("avoid or never", _most_careful("avoid", "never"), _one_of("avoid", "never"), scopes=_PROVIDERS),
    "llm_share": Kind(_SHARE, min, _whole(0, 100), scopes=_PROVIDERS),
    "llm_cache": Kind(
        "normal, first or only",
        _most_careful("normal", "first", "only"),
        _one_of("normal", "first", "only"),
        scopes=_ROUTES,
    ),
    "llm_tier": Kind(
        "normal or cheaper", _most_careful("normal", "cheaper"), _one_of("normal", "cheaper"), scopes=_ROUTES
    ),
    "llm_static": Kind("on, or 1-100", max, _static_share, scopes=_ROUTES),
    "llm_concurrency": Kind("from 1", min, _whole(1), scopes="a route, or *"),
    "llm_kill": Kind("kill", _most_careful("kill"), _one_of("kill"), _is_subject, _SUBJECT_SCOPES),
    "llm_rate": Kind("calls a minute, from 0", min, _whole(0), _is_subject, _SUBJECT_SCOPES),
}

COMBINE: dict[str, Callable[[Sequence[Any]], Any]] = {name: kind.combine for name, kind in KINDS.items()}
"""Each switch with how several claims on one scope become one value."""


def checked_value(switch: str, scope: str, value: Any) -> Any:
    """Return `value` as it is kept for this switch.

    Raises:
        InputInvalid: there is no such switch, or it takes no such scope or value.
    """
    kind = KINDS.get(switch)
    if kind is None:
        raise InputInvalid(f"no switch is called {switch!r}", hint=f"switches are: {', '.join(KINDS)}")
    if not kind.fits(scope):
        raise InputInvalid(f"{switch} cannot be set for {scope!r}", hint=f"its scope is {kind.scopes}")
    try:
        return kind.read(value)
    except (TypeError, ValueError):
        raise InputInvalid(f"{switch} of {scope} cannot be {value!r}", hint=f"it takes {kind.takes}") from None
