"""Is the data really there that was backed up? Asked of a live server, whose data may have moved on since.

A probe tells everything that is not as it was backed up. Documents come and go by right, and so does a re-indexing
under another name; `losses` are what no agent does by right. Alarms and restores go by losses alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from reanimate.backups.comparison import Tally, check_own_point, count_points, tally
from reanimate.backups.manifest import VectorManifest, base_name
from reanimate.errors import NotFound
from reanimate.vector.config import dense_vectors, payload_schema, schema_differences, vector_differences
from reanimate.vector.server import VectorServer

__all__ = ["DataReport", "Finding", "judge_sentinels", "losses", "probe_data"]

_MOST_SENTINELS_MISSING = 0.2

_TELLING = {
    "primary": frozenset({"collection", "status", "vectors", "count", "sentinels", "query"}),
    # A replica holds an older backup, seeded under another name: only what every copy must have is held against it.
    "replica": frozenset({"collection", "status", "count", "sentinels"}),
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    `check` is one of collection, alias, status, vectors, payload_schema, count, sentinels, query.
    """

    check: str
    ok: bool
    expected: str
    found: str
    detail: str = ""
    by_right: bool = False
    """It differs from the backup, but as an agent changes its data by right."""


@dataclass(frozen=True)
class DataReport:
    """What was found of one backed-up collection on one target."""

    target: str
    collection: str
    ok: bool
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def losses(report: DataReport, role: str) -> tuple[Finding, ...]:
    """Return the findings that mean loss on a target of that role; empty when the data is really there."""
    return tuple(
        finding
        for finding in report.findings
        if not finding.ok and not finding.by_right and finding.check in _TELLING[role]
    )


async def probe_data(server: VectorServer, manifest: VectorManifest, min_count_ratio: float) -> DataReport:
    """Look through the alias that readers use whether what was backed up is there.

    The live data moves on after a backup, so less than all must match: the count and the presence of sentinels by
    `min_count_ratio`; and not every sentinel may have changed, for nobody rewrites everything between two backups.

    Raises:
        Unreachable, ServerFailed, Refused: the server did not answer, or not as one that holds the collection would.
    """
    name = manifest.entry_name
    try:
        findings = await _findings(server, name, manifest, min_count_ratio)
    except NotFound:
        findings = [Finding("collection", False, f"{name} exists", "missing", f"{name} is not on {server.name}")]
    return DataReport(server.name, manifest.collection, all(finding.ok for finding in findings), tuple(findings))


async def _findings(server: VectorServer, name: str, manifest: VectorManifest, ratio: float) -> list[Finding]:
    info = await server.info(name)
    count, _ = await count_points(server, name)
    aliases = await server.aliases()
    # An alias that somebody has moved to a collection of another name: indexed anew, with vectors and ids of its own.
    anew = base_name(aliases.get(name, name)) not in (base_name(manifest.collection), base_name(name))
    vectors = _from_differences("vectors", "as backed up", vector_differences(manifest.config, info["config"]))
    findings = [
        Finding("collection", True, f"{name} exists", "exists"),
        _judge_aliases(manifest, aliases),
        Finding("status", info["status"] != "red", "not red", str(info["status"])),
        replace(vectors, by_right=anew and not vectors.ok),
        _from_differences(
            "payload_schema",
            f"{len(manifest.payload_schema)} indexes",
            schema_differences(manifest.payload_schema, payload_schema(info)),
        ),
        _judge_count(manifest.exact_count, count, ratio),
    ]
    decided = any(not finding.ok and finding.check in ("status", "vectors", "count") for finding in findings)
    if not manifest.sentinels or decided:
        return findings
    points = await server.retrieve(name, [sentinel.id for sentinel in manifest.sentinels])
    counted = tally(manifest.sentinels, points)
    findings.append(judge_sentinels(counted, ratio, anew))
    if findings[-1].ok:
        findings += await _known_query(server, name, manifest, counted)
    return findings


def _from_differences(check: str, expected: str, differences: Sequence[str]) -> Finding:
    detail = "; ".join(differences)
    return Finding(check, not differences, expected, detail or expected, detail)


def _judge_count(expected: int, found: int, ratio: float) -> Finding:
    least = int(expected * ratio)
    detail = "" if found >= least else f"{found} of {expected} points are left, less than {ratio:.0%}"
    return Finding("count", found >= least and (found > 0 or expected == 0), f"at least {least}", str(found), detail)


def judge_sentinels(counted: Tally, ratio: float, anew: bool) -> Finding:
    """Judge what became of the sentinels. `anew`: somebody has indexed the data again under another name."""
    total = len(counted.same) + len(counted.changed) + len(counted.missing)
    lost = len(counted.missing) > total - int(total * ratio)
    rewritten = bool(counted.changed) and not counted.same
    return Finding(
        "sentinels",
        not lost and not rewritten,
        f"at least {int(total * ratio)} of {total} there, some unchanged",
        str(counted),
        "" if not (lost or rewritten) else f"of {total} known points: {counted}",
        by_right=(lost or rewritten) and (anew or len(counted.missing) <= _MOST_SENTINELS_MISSING * total),
    )


async def _known_query(server: VectorServer, name: str, manifest: VectorManifest, counted: Tally) -> list[Finding]:
    """Ask for the neighbours of a stored vector whose point is unchanged: the point itself must be among them."""
    unchanged = set(counted.same)
    golden = next((query for query in manifest.golden if query.point in unchanged), None)
    if golden is None:
        return []
    distance = str(dense_vectors(manifest.config).get(golden.using, {}).get("distance", ""))
    problem = await check_own_point(server, name, golden, distance)
    return [
        Finding(
            "query", problem is None, f"point {golden.point} is found by its vector", problem or "it is", problem or ""
        )
    ]


def _judge_aliases(manifest: VectorManifest, aliases: Mapping[str, str]) -> Finding:
    lost = [alias for alias in manifest.aliases if alias not in aliases]
    expected = ", ".join(manifest.aliases) or "none"
    detail = f"missing: {', '.join(lost)}" if lost else ""
    return Finding("alias", not lost, expected, detail or expected, detail)
