"""Our own fresh look at the vector targets, for triage and for every check of a step."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from reanimate.backups.manifest import VectorManifest
from reanimate.backups.names import is_protected
from reanimate.backups.probe import Finding, losses, probe_data
from reanimate.bootstrap import Services
from reanimate.errors import ReanimateError
from reanimate.incidents.triage import TargetProbe
from reanimate.vector.probes import probe_liveness

__all__ = ["expected_manifests", "lineage", "look", "look_at", "names_of"]


def expected_manifests(services: Services, *, until: datetime | None = None) -> list[VectorManifest]:
    """Return the newest backup that holds points, of every protected collection: what must be there.

    With `until`, since when something is wrong, one from before counts first: a later one may hold what is left.
    """
    newest: dict[str, VectorManifest] = {}
    for manifest in services.catalog.list():
        if manifest.exact_count and is_protected(services.settings.vector.collections, names_of(manifest)):
            known = newest.setdefault(lineage(manifest), manifest)
            if until is not None and known.taken_at > until >= manifest.taken_at:
                newest[lineage(manifest)] = manifest
    return list(newest.values())


def lineage(manifest: VectorManifest) -> str:
    """One knowledge base keeps its alias while restores give its collection new names."""
    return min(manifest.aliases) if manifest.aliases else manifest.collection


def names_of(manifest: VectorManifest) -> list[str]:
    """Return every name by which an agent may reach a backed-up collection: its aliases, then its own."""
    return [*sorted(manifest.aliases), manifest.collection]


async def look_at(services: Services, target: str, manifests: Sequence[VectorManifest] | None = None) -> TargetProbe:
    """Look at one target now: does it answer, and is the data there that was backed up? Never raises."""
    configured = services.settings.vector.target(target)
    server = services.vector(target)
    alive = await probe_liveness(server, services.settings.watch.timeout_s)
    if not alive.ok:
        return TargetProbe(target, configured.role, answers=False, detail=f"{alive.kind}: {alive.detail}")
    expected = await asyncio.to_thread(expected_manifests, services) if manifests is None else manifests
    ratio = services.settings.watch.min_count_ratio
    try:
        reports = await asyncio.gather(*(probe_data(server, manifest, ratio) for manifest in expected))
    except ReanimateError as error:
        return TargetProbe(target, configured.role, answers=False, detail=f"answers, but not about its data: {error}")
    lost = {report.collection: losses(report, configured.role) for report in reports}
    problems = {name: _in_words(found) for name, found in lost.items() if found}
    detail = f"answers in {alive.latency_ms:.0f} ms, version {alive.version}, {len(expected)} collections judged"
    return TargetProbe(target, configured.role, True, detail, problems, judged=len(expected))


def _in_words(found: Sequence[Finding]) -> str:
    return "; ".join(f"{finding.check}: {finding.detail or finding.found}" for finding in found)


async def look(services: Services) -> list[TargetProbe]:
    """Look at every vector target that serves, at once."""
    manifests = await asyncio.to_thread(expected_manifests, services)
    targets = services.settings.vector.serving
    return list(await asyncio.gather(*(look_at(services, target.name, manifests) for target in targets)))
