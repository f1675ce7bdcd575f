"""A proof: a backup was restored to scratch and held against its manifest, when, where, and what was found."""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from reanimate import __version__
from reanimate.backups.catalog import Catalog
from reanimate.backups.checks import Check, failures
from reanimate.backups.manifest import Manifest, VectorManifest
from reanimate.backups.published import Published
from reanimate.backups.scratch import scratch_folder
from reanimate.backups.use import in_use
from reanimate.clock import utcnow
from reanimate.errors import ReanimateError, Refused
from reanimate.proofs.examining import examine
from reanimate.proofs.scratch import Scratch, ScratchServer
from reanimate.restores.read_only import BadPart, fetching, load
from reanimate.restores.versions import engine_problem, version_problem

__all__ = ["Outcome", "Progress", "Proof", "new_proof_id", "prove_collection", "proving"]

Outcome = Literal["passed", "failed", "error"]
"""failed: the backup is not right. error: nothing is known, for something else was in the way."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Proof:
    """One attempt, with its evidence."""

    id: str
    repository: str
    backup_id: str
    kind: str
    subject: str
    target: str
    """Where it was restored to; `own`: a server of our own, for this proof alone."""
    trigger: str
    outcome: Outcome
    started_at: datetime
    ended_at: datetime
    took_s: float
    checks: tuple[Check, ...] = ()
    error: str | None = None
    expires_at: datetime | None = None

    @property
    def failed_checks(self) -> str:
        """What was wrong, in words; empty when nothing was."""
        return failures(self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values: the evidence that is kept beside the backup."""
        times = {name: getattr(self, name) for name in ("started_at", "ended_at", "expires_at")}
        return {
            **asdict(self),
            **{name: moment.isoformat() if moment else None for name, moment in times.items()},
            "tool_version": __version__,
        }


def new_proof_id(backup_id: str, now: datetime) -> str:
    """Return the id of a proof begun now."""
    return f"{backup_id}-p{now:%Y%m%d%H%M%S}-{secrets.token_hex(2)}"


class _Draft:
    """A proof under way: what its checks and its trouble are, once they are known."""

    def __init__(self) -> None:
        self.checks: tuple[Check, ...] = ()
        self.error: str | None = None
        self.proof: Proof | None = None

    @property
    def outcome(self) -> Outcome:
        if self.error is not None or not self.checks:
            return "error"
        return "passed" if all(check.passed for check in self.checks) else "failed"


@asynccontextmanager
async def proving(
    proof_id: str,
    backup: Published[Manifest],
    *,
    repository: str,
    target: str,
    trigger: str,
    valid_for: timedelta,
) -> AsyncIterator[_Draft]:
    """Time a proof and say how it ended: set the draft's `checks` in the block, and have its `proof` afterwards.

    What is wrong with the backup itself becomes a failed check, any other trouble of ours an error.
    """
    draft, started_at, began = _Draft(), utcnow(), time.monotonic()
    try:
        yield draft
    except BadPart as bad:
        draft.checks = (Check(bad.check, False, "as the manifest says", bad.args[0]),)
    except ReanimateError as error:
        draft.error = str(error)
    ended_at = utcnow()
    outcome = draft.outcome
    draft.proof = Proof(
        id=proof_id,
        repository=repository,
        backup_id=backup.manifest.id,
        kind=backup.manifest.kind,
        subject=backup.manifest.subject,
        target=target,
        trigger=trigger,
        outcome=outcome,
        started_at=started_at,
        ended_at=ended_at,
        took_s=round(time.monotonic() - began, 3),
        checks=draft.checks,
        error=draft.error,
        expires_at=ended_at + valid_for if outcome == "passed" else None,
    )


async def prove_collection(
    catalog: Catalog, manifest: VectorManifest, scratch: Scratch, on_progress: Progress | None = None
) -> tuple[Check, ...]:
    """Restore a vector backup to a scratch collection, hold it against its manifest, and remove it again.

    Nothing is mended on the way: an index that did not come along is one that a restore would lack. Stages of progress:
    download, create, load, examine.

    Raises:
        BadPart: the backup cannot be restored: that is what a proof is for.
        Refused: this scratch server cannot take backups of that version or form.
        ReanimateError: the store or the scratch server failed; nothing is known.
    """
    progress = on_progress or _silent
    async with (
        in_use(catalog, manifest, "a proof"),
        scratch_folder(catalog.scratch, "proof") as folder,
        fetching(catalog, manifest, folder, progress) as parts,
        scratch.open(folder / "server") as server,
    ):
        await _require_version(server, manifest)
        async with scratch.collection(server, manifest) as name:
            await load(server.server, name, manifest, parts, progress, flat=server.is_own)
            progress("examine", 0, 1)
            checks = await examine(server.server, name, manifest, _aliases(server, name, manifest))
            progress("examine", 1, 1)
        return tuple(checks)


def _aliases(server: ScratchServer, name: str, manifest: VectorManifest) -> dict[str, str]:
    """Return by which alias each one is tried: by itself where nobody else is, else by one that nobody else has."""
    return {alias: alias if server.is_own else f"{name}--{alias}" for alias in manifest.aliases}


async def _require_version(scratch: ScratchServer, manifest: VectorManifest) -> None:
    """See that this server can load what that one has made.

    Raises:
        Refused: it cannot, by the vendor's rule or by what is known of the engine.
    """
    if scratch.is_own:
        problem = engine_problem(manifest.server)
    else:
        problem = version_problem(manifest.server, await scratch.server.version())
    if problem:
        raise Refused(
            f"backup {manifest.id} cannot be proven on {scratch.server.name}: it was {problem}",
            hint="set a server of a fitting version aside for proofs: a [[vector.targets]] with role = 'scratch'",
        )


def _silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
