"""Is a restored collection what was backed up? Counts prove little; hashes of points and known answers decide."""

from dataclasses import asdict, dataclass
from typing import Any

from reanimate.backups.checks import Check, failures
from reanimate.backups.comparison import check_answers, count_points, tally
from reanimate.backups.manifest import VectorManifest
from reanimate.errors import NotFound, VerificationFailed
from reanimate.vector.config import payload_schema, schema_differences, vector_differences
from reanimate.vector.server import Json, VectorServer

__all__ = ["Check", "Verification", "verify"]

_ANSWERING = ("green", "yellow")
"""Yellow still optimizes, and answers fully."""


@dataclass(frozen=True)
class Verification:
    """Whether a collection holds exactly what its backup holds."""

    collection: str
    backup_id: str
    passed: bool
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    def require(self, where: str) -> None:
        """Say no if a check failed.

        Raises:
            VerificationFailed: naming each failed check with what was expected and found.
        """
        if not self.passed:
            raise VerificationFailed(
                f"{self.collection!r} on {where} is not what backup {self.backup_id} holds: {failures(self.checks)}"
            )


async def verify(server: VectorServer, name: str, manifest: VectorManifest) -> Verification:
    """Hold a collection, by its name or an alias, against a manifest; nothing may differ.

    Raises:
        Unreachable, ServerFailed, Refused: the server did not answer.
    """
    try:
        info = await server.info(name)
        checks = [*_checks_of_description(manifest, info), *await _checks_of_points(server, name, manifest)]
    except NotFound as error:
        checks = [Check("collection", False, f"{name} exists", str(error))]
    return Verification(name, manifest.id, all(check.passed for check in checks), tuple(checks))


def _checks_of_description(manifest: VectorManifest, info: Json) -> list[Check]:
    vectors = "; ".join(vector_differences(manifest.config, info["config"]))
    indexes = "; ".join(schema_differences(manifest.payload_schema, payload_schema(info)))
    status = str(info["status"])
    return [
        Check("status", status in _ANSWERING, "green", status),
        Check("vectors", not vectors, "as backed up", vectors or "as backed up"),
        Check("payload_schema", not indexes, f"{len(manifest.payload_schema)} indexes", indexes or "all there"),
    ]


async def _checks_of_points(server: VectorServer, name: str, manifest: VectorManifest) -> list[Check]:
    count, _ = await count_points(server, name)
    checks = [Check("count", count == manifest.exact_count, str(manifest.exact_count), str(count))]
    points = []
    ids = [sentinel.id for sentinel in manifest.sentinels]
    for at in range(0, len(ids), 100):
        points += await server.retrieve(name, ids[at : at + 100])
    counted = tally(manifest.sentinels, points)
    whole = not counted.changed and not counted.missing
    checks.append(Check("sentinels", whole, f"{len(ids)} the same", str(counted)))
    problems = await check_answers(server, name, manifest.golden)
    for number, (golden, problem) in enumerate(zip(manifest.golden, problems, strict=True), 1):
        of = f" by {golden.using}" if golden.using else ""
        checks.append(Check(f"query {number}{of}", problem is None, "the known answer", problem or "the known answer"))
    return checks
