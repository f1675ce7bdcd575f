"""What a difference between a snapshot and the live collection means, by who wrote and what the server was doing."""

import pytest

from reanimate.backups.comparison import Tally
from reanimate.backups.liveness import count_warnings, point_warnings
from reanimate.errors import Damaged

SAME = Tally((1, 2, 3), (), ())
CHANGED = Tally((1, 2), (3,), ())
GONE = Tally((1, 2), (), (3,))


@pytest.mark.parametrize(
    ("before", "after", "found", "quiet", "calm", "words"),
    [
        (10, 10, 10, True, True, []),
        (10, 10, 9, False, True, []),
        (10, 14, 12, False, True, []),
        (0, 0, 0, True, True, ["was empty"]),
        (None, None, 9, True, True, ["strict mode"]),
        (10, 10, 13, True, False, ["3 points may come back"]),
        (10, 10, 10, True, False, ["0 points may come back"]),
        (10, 11, 13, False, False, ["points may come back"]),
    ],
    ids=[
        "equal",
        "written to",
        "grew",
        "empty",
        "strict",
        "rewriting, more",
        "rewriting, equal",
        "rewriting, written to",
    ],
)
def test_counts__explained(
    before: int | None, after: int | None, found: int, quiet: bool, calm: bool, words: list[str]
) -> None:
    """Writes explain a difference of counts; a server that rewrites segments explains points too many, and says so."""
    warnings = count_warnings("kb", before, after, found, quiet=quiet, calm=calm)
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))


@pytest.mark.parametrize(
    ("before", "after", "found", "quiet", "calm"),
    [(10, 10, 9, True, True), (10, 10, 11, True, True), (10, 10, 9, True, False), (10, 12, 0, False, True)],
    ids=["too few", "too many", "too few while rewriting", "empty"],
)
def test_counts__unexplained(before: int, after: int, found: int, quiet: bool, calm: bool) -> None:
    """When nobody wrote, a snapshot with another count is no backup; nor is an empty one of a full collection, ever."""
    with pytest.raises(Damaged):
        count_warnings("kb", before, after, found, quiet=quiet, calm=calm)


@pytest.mark.parametrize(
    ("found", "quiet", "calm", "warnings"),
    [(SAME, True, True, 0), (CHANGED, False, True, 1), (GONE, False, True, 1), (GONE, True, False, 0)],
    ids=["the same", "changed since", "deleted since", "deleted before"],
)
def test_points__explained(found: Tally, quiet: bool, calm: bool, warnings: int) -> None:
    """Points that were written since the snapshot may differ."""
    assert len(point_warnings("kb", found, quiet=quiet, calm=calm)) == warnings


@pytest.mark.parametrize(("found", "calm"), [(CHANGED, True), (GONE, True), (CHANGED, False)])
def test_points__unexplained(found: Tally, calm: bool) -> None:
    """A point that differs though nobody wrote is a snapshot that is not what was there."""
    with pytest.raises(Damaged, match="nobody wrote"):
        point_warnings("kb", found, quiet=True, calm=calm)
