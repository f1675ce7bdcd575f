"""Figures about backups and proofs for Prometheus: the newest of each thing, whatever it was called meanwhile."""

from datetime import UTC, datetime, timedelta

import pytest

from reanimate.config import Settings
from reanimate.db.tables import Backup, Proof
from reanimate.protection.figures import summed_up

NOW = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)
SETTINGS = Settings.model_validate({"backups": {"rpo_s": 3600}})


def backup(subject: str, hours_ago: float, kind: str = "vector") -> Backup:
    at = NOW - timedelta(hours=hours_ago)
    return Backup(kind=kind, subject=subject, started_at=at, ended_at=at + timedelta(seconds=4), size_bytes=1000)


def proof(subject: str, hours_ago: float, state: str = "passed") -> Proof:
    at = NOW - timedelta(hours=hours_ago)
    return Proof(
        kind="vector", subject=subject, state=state, started_at=at, ended_at=at + timedelta(seconds=36), took_s=36.0
    )


def test_summed_up__a_restored_collection_is_the_same_thing() -> None:
    """Its old name must not look like something that nobody backs up any more."""
    rows = [backup("kb-r20261126080000", 0.5), backup("kb", 30)]
    (kb,) = summed_up(rows, [proof("kb", 29), proof("kb-r20261126080000", 0.25)], SETTINGS, now=NOW)
    assert (kb.subject, kb.age_s, kb.took_s, kb.size_bytes, kb.late) == ("kb", 1800, 4, 1000, 0)
    assert (kb.proof_age_s, kb.proof_took_s, kb.refuted) == (15 * 60 - 36, 36, 0)


@pytest.mark.parametrize(
    ("kind", "hours_ago", "late"),
    [("vector", 2, 1), ("vector", 0.5, 0), ("postgres", 20, 0), ("postgres", 27, 1), ("config", 900, None)],
)
def test_summed_up__late_by_kind(kind: str, hours_ago: float, late: int | None) -> None:
    (thing,) = summed_up([backup("kb", hours_ago, kind)], [], SETTINGS, now=NOW)
    assert (thing.late, thing.proof_age_s, thing.refuted) == (late, None, None)


def test_summed_up__a_failed_proof_stands_until_one_passes() -> None:
    """The age stays that of the last one that passed."""
    (kb,) = summed_up([backup("kb", 1)], [proof("kb", 30), proof("kb", 1, "failed")], SETTINGS, now=NOW)
    assert kb.refuted == 1
    assert kb.proof_age_s == pytest.approx(30 * 3600 - 36)
    (kb,) = summed_up([backup("kb", 1)], [proof("kb", 1), proof("kb", 30, "failed")], SETTINGS, now=NOW)
    assert kb.refuted == 0


def test_summed_up__a_proof_of_nothing_is_left_out() -> None:
    assert summed_up([], [proof("gone", 1)], SETTINGS, now=NOW) == ()
