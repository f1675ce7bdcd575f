"""Which embedding model a collection's vectors are of, by the settings. Pure."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from reanimate.backups.manifest import base_name

__all__ = ["expected_model"]


def expected_model(models: Mapping[str, str], names: Iterable[str]) -> str | None:
    """Return the model that `[vector] models` gives for a collection with these names (its own and its aliases).

    An exact name wins over a glob, and among globs the first one written.
    """
    known = list(dict.fromkeys(name for given in names for name in (given, base_name(given))))
    for name in known:
        if name in models:
            return models[name]
    return next((model for glob, model in models.items() if any(fnmatchcase(name, glob) for name in known)), None)
