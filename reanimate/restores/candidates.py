"""Which backups could be restored, and why not the others: each judged by rules, in each repository. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from reanimate.backups.manifest import VectorManifest, base_name
from reanimate.backups.names import model_of
from reanimate.restores.versions import engine_problem, version_problem
from reanimate.vector.server import ServerIdentity

__all__ = ["Copy", "Judged", "Proof", "ProofState", "Rules", "Wish", "judge", "proof_of", "suspicion"]

_LEAST_RECALL = 0.9


class ProofState(StrEnum):
    PROVEN = "proven"
    EXPIRED = "expired"
    FAILED = "failed"
    UNPROVEN = "unproven"


@dataclass(frozen=True)
class Proof:
    """What is known of a backup from restoring it elsewhere."""

    state: ProofState = ProofState.UNPROVEN
    at: datetime | None = None

    def __str__(self) -> str:
        when = f" {self.at:%Y-%m-%d %H:%M}" if self.at else ""
        return {
            ProofState.PROVEN: f"proven{when}",
            ProofState.EXPIRED: f"proven{when}, expired",
            ProofState.FAILED: f"proof failed{when}",
            ProofState.UNPROVEN: "not proven",
        }[self.state]


@dataclass(frozen=True)
class Copy:
    """One backup as one repository has it. `missing` says why its bytes cannot be had from there."""

    repository: str
    manifest: VectorManifest
    proof: Proof = Proof()
    missing: str | None = None


@dataclass(frozen=True)
class Wish:
    """What was asked for: by default the newest that can be used."""

    collection: str
    backup_id: str | None = None
    at: datetime | None = None
    newest_proven: bool = False
    fault_at: datetime | None = None
    """Of an incident, for whom nobody looks at the choice: since when something is wrong. Then caution rules."""
    passed_over: Mapping[tuple[str, str], str] | None = None
    """(repository, id) -> why: copies that were tried and could not be used."""


@dataclass(frozen=True)
class Rules:
    """What a backup is held against."""

    server: ServerIdentity
    now: datetime
    models: Mapping[str, str] | None = None
    """Collection or glob -> embedding model."""
    min_count_ratio: float = 0.9
    by_engine: bool = False
    """It is loaded by the engine of our own, and `server` gets only points."""


@dataclass(frozen=True)
class Judged:
    """One copy and what speaks against it."""

    copy: Copy
    unusable: str | None
    """It cannot be restored, whoever asks for it."""
    avoided: str | None
    """It is not taken unless it is asked for by its id."""

    @property
    def free(self) -> bool:
        return self.unusable is None and self.avoided is None


def judge(copies: Sequence[Copy], wish: Wish, rules: Rules) -> list[Judged]:
    """Judge every copy, in the order given: newest first, and the repositories in their own order."""
    unusable = {_key(copy): _unusable(copy, wish, rules) for copy in copies}
    usable = [copy for copy in copies if unusable[_key(copy)] is None]
    return [Judged(copy, unusable[_key(copy)], _avoided(copy, usable, wish, rules)) for copy in copies]


def suspicion(manifest: VectorManifest, others: Sequence[Copy], ratio: float) -> str | None:
    """Say what looks wrong in a backup itself, compared with the newest one before it that holds points, or None.

    A backup taken while something was deleting points is whole, and of little use.
    """
    earlier = [
        copy
        for copy in others
        if copy.manifest.taken_at < manifest.taken_at
        and copy.manifest.exact_count
        and copy.proof.state is not ProofState.FAILED
    ]
    before = max(earlier, key=lambda copy: copy.manifest.taken_at, default=None)
    if before is not None and manifest.exact_count < ratio * before.manifest.exact_count:
        return (
            f"it holds {manifest.exact_count} points, and {before.manifest.id} before it {before.manifest.exact_count}"
        )
    if manifest.index_recall is not None and manifest.index_recall < _LEAST_RECALL:
        return f"its own index found {manifest.index_recall:.0%} of the known answers when it was taken"
    return None


def proof_of(passed: datetime | None, failed: datetime | None, now: datetime, expires: timedelta) -> Proof:
    """Return the state by the newest proof that passed and the newest that failed."""
    if failed and (passed is None or failed >= passed):
        return Proof(ProofState.FAILED, failed)
    if passed is None:
        return Proof()
    return Proof(ProofState.EXPIRED if passed + expires < now else ProofState.PROVEN, passed)


def _key(copy: Copy) -> tuple[str, str]:
    return copy.repository, copy.manifest.id


def _unusable(copy: Copy, wish: Wish, rules: Rules) -> str | None:
    manifest = copy.manifest
    if tried := (wish.passed_over or {}).get(_key(copy)):
        return f"tried just now: {tried}"
    if copy.missing:
        return copy.missing
    made_by = manifest.server
    problem = engine_problem(made_by) if rules.by_engine else version_problem(made_by, rules.server)
    return problem or _model_problem(manifest, rules.models or {})


def _model_problem(manifest: VectorManifest, models: Mapping[str, str]) -> str | None:
    expected = model_of(models, [manifest.collection, *manifest.aliases, base_name(manifest.collection)])
    made_with = manifest.embedding
    if expected is None or made_with is None or made_with.model == expected:
        return None
    return (
        f"its vectors are of the embedding model {made_with.model}, and {manifest.collection} is searched with "
        f"{expected}: vectors of another model answer wrongly, whatever their dimension"
    )


def _is_late(copy: Copy, others: Sequence[Copy], fault_at: datetime | None) -> bool:
    """Say whether it was taken after the fault began, while there is a good one from before."""
    return (
        fault_at is not None
        and copy.manifest.taken_at > fault_at
        and any(other.manifest.taken_at <= fault_at and _is_good(other) for other in others)
    )


def _is_good(copy: Copy) -> bool:
    return copy.manifest.exact_count > 0 and copy.proof.state is not ProofState.FAILED


def _avoided(copy: Copy, usable: Sequence[Copy], wish: Wish, rules: Rules) -> str | None:
    """Say why this copy is not one to take by default, or None."""
    manifest = copy.manifest
    if wish.backup_id is not None:
        return None if manifest.id == wish.backup_id else "another was asked for by its id"
    if wish.at is not None and manifest.taken_at > wish.at:
        return f"taken after {wish.at.isoformat()}"
    if copy.proof.state is ProofState.FAILED:
        return f"{copy.proof}; name it by its id if you want it all the same"
    if wish.newest_proven and copy.proof.state is ProofState.UNPROVEN:
        return "not proven"
    until = [other for other in usable if wish.at is None or other.manifest.taken_at <= wish.at]
    if _is_late(copy, until, wish.fault_at):
        return f"taken after the fault began at {wish.fault_at:%H:%M:%S}: what was wrong may be in it"
    if manifest.exact_count == 0 and any(other.manifest.exact_count for other in until):
        return "it is empty, and another one holds points; name it by its id if you want it"
    if wish.fault_at is not None and copy.proof.state is not ProofState.PROVEN:
        others = any(other.manifest.id != manifest.id and other.manifest.exact_count for other in until)
        if others and (odd := suspicion(manifest, until, rules.min_count_ratio)):
            return f"{copy.proof}, and {odd}"
    return None
