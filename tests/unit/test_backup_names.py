"""Which collections a list of names means."""

import pytest

from reanimate.backups.names import match_names
from reanimate.errors import NotFound

COLLECTIONS = ["kb", "kb2", "kb-notes", "logs", "kb-r20261123013000", "kb-s20261101000000", "odd[1]", "odd1"]
ALIASES = {"live": "kb2", "kb-live": "kb-r20261123013000"}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["kb"], ["kb"]),
        (["live"], ["live"]),
        (["kb*"], ["kb", "kb-live", "kb-notes", "kb2"]),
        (["kb", "kb*"], ["kb", "kb-live", "kb-notes", "kb2"]),
        (["kb2", "live"], ["kb2"]),
        (["live", "kb?"], ["live"]),
        (["odd[1]"], ["odd[1]"]),
        (["odd[12]"], ["odd1"]),
        (["gone"], ["gone"]),
        (["kb-r20261123013000"], ["kb-r20261123013000"]),
        (["*-s*"], []),
    ],
    ids=[
        "a name is itself only",
        "an alias",
        "a glob, and the live one of the copies",
        "no collection twice",
        "an alias and its collection are one",
        "whatever came first names it",
        "what is called exactly so, though it looks like a glob",
        "a glob of brackets",
        "what is not there is said by the backup",
        "a copy by its full name",
        "copies are no match",
    ],
)
def test_names(wanted: list[str], expected: list[str]) -> None:
    """Exact names never match another's; globs match collections and aliases, not what restores left behind."""
    if not expected:
        with pytest.raises(NotFound, match="none of them is"):
            match_names(wanted, COLLECTIONS, ALIASES)
    else:
        assert match_names(wanted, COLLECTIONS, ALIASES) == expected
