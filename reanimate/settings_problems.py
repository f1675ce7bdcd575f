"""What is wrong with settings, said where the person who wrote them would look, and in words. Pure."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

__all__ = ["say_problems"]

Problem = Mapping[str, Any]
Place = Sequence[str | int]


def say_problems(problems: Sequence[Problem], settings: type[BaseModel], given: Mapping[str, Any]) -> str:
    """Return pydantic's `problems` with `settings` in one line; `given` is what the file says, for names of tables."""
    told = [problem for problem in problems if not _only_follows(problem, problems)]
    return "; ".join(f"{_place(problem['loc'], given)}: {_words(problem, settings)}" for problem in told)


def _only_follows(problem: Problem, problems: Sequence[Problem]) -> bool:
    """Say whether a list is called too short since what is wrong with its items left it empty."""
    place = tuple(problem["loc"])
    return problem["type"] == "too_short" and any(
        len(other["loc"]) > len(place) and tuple(other["loc"][: len(place)]) == place for other in problems
    )


def _place(loc: Place, given: Any) -> str:
    """Return where it is: llm.routes[chat].targets, with the name of a table, else #3 for the third."""
    said = ""
    for part in loc:
        if isinstance(part, int):
            given = given[part] if isinstance(given, list) and part < len(given) else None
            name = given.get("name") if isinstance(given, Mapping) else None
            said += f"[{name}]" if isinstance(name, str) and name else f"[#{part + 1}]"
        else:
            given = given.get(part) if isinstance(given, Mapping) else None
            said += f".{part}" if said else part
    return said or "settings"


def _words(problem: Problem, settings: type[BaseModel]) -> str:
    kind, message = problem["type"], str(problem["msg"])
    if kind == "extra_forbidden":
        return "there is no such setting" + _meant(problem["loc"], settings)
    if kind == "missing":
        return "this is missing"
    if kind == "too_short":
        return "this must not be empty"
    return message.removeprefix("Value error, ").replace("Input should", "it should", 1)


def _meant(loc: Place, settings: type[BaseModel]) -> str:
    """Return which setting was meant, as far as one is spelt like it."""
    table: type[BaseModel] | None = settings
    for part in loc[:-1]:
        if isinstance(part, str) and table is not None:
            field = table.model_fields.get(part)
            table = _table_in(field.annotation) if field is not None else None
    found = difflib.get_close_matches(str(loc[-1]), table.model_fields if table is not None else (), 1)
    return f"; is {found[0]} meant?" if found else ""


def _table_in(annotation: Any) -> type[BaseModel] | None:
    """Return the table that a field holds, alone or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for item in get_args(annotation) if (found := _table_in(item)) is not None), None)
