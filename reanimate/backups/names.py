"""Which collections a list of names means. Pure."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from reanimate.backups.manifest import base_name
from reanimate.errors import NotFound
from reanimate.section import is_glob

__all__ = ["is_protected", "match_names", "model_of"]


def match_names(wanted: Sequence[str], collections: Sequence[str], aliases: Mapping[str, str]) -> list[str]:
    """Return the names to back up: each of `wanted` itself, or what it matches as a glob, no collection twice.

    What is called exactly so is meant, wildcards or not, and an exact name never matches another's. A name that is not
    there stays in the list, so that backing it up says so. A glob matches collections and aliases; copies that a
    restore or a seeding left are matched only through an alias that leads to them, that is, when they are live.

    Raises:
        NotFound: a glob matches nothing.
    """
    known = [*aliases, *(name for name in collections if base_name(name) == name)]
    there = {*collections, *aliases}
    found: dict[str, str] = {}
    for name in wanted:
        exact = name in there or not is_glob(name)
        matches = [name] if exact else [one for one in sorted(known) if fnmatchcase(one, name)]
        if not matches:
            raise NotFound(
                f"looking for collections like {name!r}: none of them is",
                hint=f"there are {', '.join(sorted(there)) or 'none'}",
            )
        for match in matches:
            found.setdefault(aliases.get(match, match), match)
    return list(found.values())


def model_of(models: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Return the embedding model of a collection that has these names: by exact name first, else by the first glob."""
    for name in names:
        if name in models:
            return models[name]
    return next((model for glob, model in models.items() if any(fnmatchcase(name, glob) for name in names)), None)


def is_protected(wanted: Sequence[str], names: Sequence[str]) -> bool:
    """Say whether a collection that has these names is among the wanted names and globs; without any, all are."""
    return not wanted or any(
        name == one or (is_glob(one) and fnmatchcase(name, one)) for one in wanted for name in names
    )
