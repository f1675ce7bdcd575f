"""Which backup to restore, and why: a pure decision that explains itself before anything is touched."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from reanimate.backups.catalog import DamagedBackup
from reanimate.backups.manifest import Server, VectorManifest, base_name, restore_name
from reanimate.backups.names import model_of
from reanimate.errors import NotFound, Refused
from reanimate.restores.candidates import Copy, Judged, Proof, ProofState, Rules, Wish, judge, suspicion
from reanimate.restores.outlook import Outlook, WritesSince, span, writes_since
from reanimate.restores.versions import version_problem

__all__ = ["Candidate", "Proven", "RestorePlan", "Sight", "plan_restore", "version_problem"]


@dataclass(frozen=True)
class Candidate:
    """A copy of a backup that is not the one, and why not."""

    id: str
    repository: str
    taken_at: str | None
    points: int | None
    proof: str
    reason: str


@dataclass(frozen=True)
class Proven:
    """The newest proven backup, when another one is chosen, and how much older it is, in seconds."""

    id: str
    repository: str
    taken_at: datetime
    older_s: float
    points: int


@dataclass(frozen=True)
class Sight:
    """What was seen of the target and of the gateways. It makes a plan say more, and changes nothing of the choice."""

    target: str
    live_count: int | None = None
    existing: tuple[str, ...] = ()
    """Collections on the target."""
    totals: dict[str, int] | None = None
    """Writes that gateways have acknowledged until now, by collection or alias."""
    unread: dict[str, str] | None = None
    """Repositories that could not be read, and why."""


@dataclass(frozen=True)
class RestorePlan:
    """What a restore would do. Ages in seconds, sizes in bytes."""

    backup_id: str
    repository: str
    why: str
    proof: str
    newest_proven: Proven | None
    collection: str
    aliases: tuple[str, ...]
    target: str
    new_name: str
    taken_at: datetime
    age_s: float
    points: int
    size_bytes: int
    shards: int
    base: str | None
    made_by: str
    server: str
    lost: str
    writes: WritesSince | None
    outlook: Outlook
    """What it will take; filled in when it is known which backup it is."""
    warnings: tuple[str, ...]
    others: tuple[Candidate, ...]

    def foreseeing(self, outlook: Outlook) -> "RestorePlan":
        """Return it with what it will take, and warnings where there is not enough room."""
        return replace(self, outlook=outlook, warnings=(*self.warnings, *outlook.problems))

    @property
    def writes_since(self) -> int | None:
        """Writes acknowledged since the backup, all names together; None when not known."""
        return self.writes.total if self.writes else None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        proven = self.newest_proven
        return {
            **asdict(self),
            "taken_at": self.taken_at.isoformat(),
            "writes_since": self.writes_since,
            "newest_proven": proven and {**asdict(proven), "taken_at": proven.taken_at.isoformat()},
        }


def plan_restore(
    copies: Sequence[Copy],
    wish: Wish,
    rules: Rules,
    sight: Sight,
    *,
    damaged: Sequence[tuple[str, DamagedBackup]] = (),
) -> RestorePlan:
    """Choose among the copies of a collection's backups: newest first, the repositories in the order of preference.

    By default the newest that can be restored here and against which nothing speaks; with `at`, the newest of those
    until then; with `newest_proven`, of those that were proven; with `backup_id`, that one. `damaged` are those that
    cannot even be read, each with its repository.

    Raises:
        NotFound: there is none to choose from; the message says why each one is not.
        Refused: the backup asked for by id cannot be restored here.
    """
    judged = judge(copies, wish, rules)
    chosen = _choose(judged, wish)
    if chosen is None:
        raise _nothing(wish, judged, damaged)
    manifest = chosen.copy.manifest
    proven = _newest_proven(judged, chosen)
    others = [_candidate(one, chosen) for one in judged if one is not chosen]
    others += [Candidate(one.id, where, None, None, "", one.reason) for where, one in damaged]
    return RestorePlan(
        backup_id=manifest.id,
        repository=chosen.copy.repository,
        why=_why(chosen, wish, judged),
        proof=str(chosen.copy.proof),
        newest_proven=proven,
        collection=manifest.collection,
        aliases=tuple(manifest.aliases),
        target=sight.target,
        new_name=restore_name(manifest.collection, rules.now),
        taken_at=manifest.taken_at,
        age_s=round((rules.now - manifest.taken_at).total_seconds(), 1),
        points=manifest.exact_count,
        size_bytes=manifest.size_bytes,
        shards=len(manifest.parts),
        base=manifest.base,
        made_by=_named(manifest.server),
        server=f"{rules.server.title} {rules.server.version}",
        lost=_lost(manifest, rules.now, sight.live_count),
        writes=writes_since(manifest, sight.totals),
        outlook=Outlook(),
        warnings=tuple(_warnings(chosen.copy, copies, rules, sight, proven)),
        others=tuple(others),
    )


def _choose(judged: Sequence[Judged], wish: Wish) -> Judged | None:
    free = [one for one in judged if one.free]
    if wish.newest_proven:  # an expired proof is better than none, and worse than one that is not
        valid = (one for one in free if one.copy.proof.state is ProofState.PROVEN)
        return next(valid, free[0] if free else None)
    return free[0] if free else None


def _newest_proven(judged: Sequence[Judged], chosen: Judged) -> Proven | None:
    """Return the newest proven one that could be taken instead, unless the chosen one is proven itself."""
    if chosen.copy.proof.state is ProofState.PROVEN:
        return None
    for one in judged:
        manifest = one.copy.manifest
        if one.unusable is None and one.copy.proof.state is ProofState.PROVEN:
            older = (chosen.copy.manifest.taken_at - manifest.taken_at).total_seconds()
            return Proven(manifest.id, one.copy.repository, manifest.taken_at, round(older, 1), manifest.exact_count)
    return None


def _why(chosen: Judged, wish: Wish, judged: Sequence[Judged]) -> str:
    if wish.backup_id is not None:
        why = "asked for by its id"
    elif wish.newest_proven and chosen.copy.proof.state is ProofState.PROVEN:
        why = "the newest that is proven"
    elif wish.newest_proven:
        why = "the newest whose proof passed; it has expired, and no other is proven"
    elif chosen.copy.manifest.exact_count == 0:
        why = "the newest that can be restored here; no backup of this collection holds points"
    else:
        why = "the newest that holds points and can be restored here"
    if wish.at is not None and wish.backup_id is None:
        why += f", of those taken until {wish.at.isoformat()}"
    newer = [one for one in judged if one.copy.manifest.taken_at > chosen.copy.manifest.taken_at]
    passed_over = {one.copy.manifest.id: one for one in newer if one.unusable or wish.fault_at}
    if passed_over and wish.backup_id is None and wish.at is None:
        reasons = "; ".join(f"{id_}: {one.unusable or one.avoided}" for id_, one in passed_over.items())
        why += f"; newer ones are passed over ({reasons})"
    elsewhere = [
        one
        for one in judged
        if one.copy.manifest.id == chosen.copy.manifest.id and one is not chosen and one.unusable is not None
    ]
    if elsewhere:
        lacking = ", ".join(one.copy.repository for one in elsewhere)
        why += f"; from {chosen.copy.repository}, for it cannot be had from {lacking}"
    return why


def _nothing(wish: Wish, judged: Sequence[Judged], damaged: Sequence[tuple[str, DamagedBackup]]) -> Refused | NotFound:
    if wish.backup_id is not None:
        named = [f"{one.copy.repository}: {one.unusable}" for one in judged if one.copy.manifest.id == wish.backup_id]
        named += [f"{where}: {one.reason}" for where, one in damaged if one.id == wish.backup_id]
        if named:
            return Refused(f"backup {wish.backup_id} cannot be restored here ({'; '.join(named)})")
        return NotFound(
            f"no backup of {wish.collection!r} is called {wish.backup_id!r}",
            hint="`reanimate backup list` shows those there are",
        )
    reasons = [f"{one.copy.manifest.id}: {one.unusable or one.avoided}" for one in judged]
    reasons += [f"{one.id}: {one.reason}" for _, one in damaged]
    what = "proven backup" if wish.newest_proven else "backup"
    return NotFound(
        f"no {what} of {wish.collection!r} can be restored"
        + (f" ({'; '.join(reasons[:5])})" if reasons else ": there is none"),
        hint=f"`reanimate backup run {shlex.quote(wish.collection)}` takes one",
    )


def _candidate(one: Judged, chosen: Judged) -> Candidate:
    manifest = one.copy.manifest
    reason = one.unusable or one.avoided
    if reason is None and manifest.id == chosen.copy.manifest.id:
        reason = "the same backup elsewhere; taken from there if the first one turns out damaged"
    return Candidate(
        manifest.id,
        one.copy.repository,
        manifest.taken_at.isoformat(),
        manifest.exact_count,
        str(one.copy.proof),
        reason or "an earlier one; a newer is chosen",
    )


def _lost(chosen: VectorManifest, now: datetime, live_count: int | None) -> str:
    since = f"everything written after {chosen.taken_at:%Y-%m-%d %H:%M:%S} UTC ({span(now, chosen.taken_at)} ago)"
    if live_count is None:
        return since
    difference = live_count - chosen.exact_count
    compared = (
        "as many points" if not difference else f"{abs(difference)} points {'more' if difference > 0 else 'fewer'}"
    )
    return f"{since}; the live collection holds {live_count}, {compared}" + (" as the backup" if not difference else "")


def _warnings(chosen: Copy, copies: Sequence[Copy], rules: Rules, sight: Sight, proven: Proven | None) -> list[str]:
    manifest = chosen.manifest
    warnings = list(manifest.warnings)
    if chosen.proof.state is not ProofState.PROVEN:
        warnings.append(_unproven(chosen.proof, manifest, proven))
    if odd := suspicion(manifest, copies, rules.min_count_ratio):
        warnings.append(f"this backup looks odd: {odd}")
    expected = model_of(rules.models or {}, [manifest.collection, *manifest.aliases, base_name(manifest.collection)])
    if expected is not None and manifest.embedding is None:
        warnings.append(
            f"the backup does not say which embedding model made its vectors; {manifest.collection} is searched with "
            f"{expected}"
        )
    own = base_name(manifest.collection)
    if own == manifest.collection and own in sight.existing:
        reached = f"through {', '.join(manifest.aliases)}" if manifest.aliases else "by its new name only"
        warnings.append(
            f"the collection {own} still exists on the target and is kept: "
            f"the restored data is reached {reached}, and who asks for {own} itself goes on reading the old"
        )
    warnings += [f"repository {name} could not be read: {why}" for name, why in (sight.unread or {}).items()]
    return warnings


def _unproven(proof: Proof, manifest: VectorManifest, proven: Proven | None) -> str:
    if proven is None:
        return f"this backup is {proof}, and no other one that can be restored here is"
    cost = span(manifest.taken_at, proven.taken_at)
    direction = "older" if proven.older_s >= 0 else "newer"
    cost = cost if proven.older_s >= 0 else span(proven.taken_at, manifest.taken_at)
    return (
        f"this backup is {proof}; the newest proven one is {proven.id} with {proven.points} points, {cost} {direction} "
        "(--newest-proven takes it)"
    )


def _named(server: Server) -> str:
    return f"{server.title} {server.version}"
