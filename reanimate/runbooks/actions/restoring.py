"""Actions that bring data back: waiting for a server, restoring beside, switching over, and proving it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from reanimate.backups.manifest import VectorManifest
from reanimate.backups.probe import losses, probe_data
from reanimate.backups.repositories import named
from reanimate.db.tables import Incident
from reanimate.errors import CheckFailed, VerificationFailed
from reanimate.restores.aliases import AliasSwitch, plan_switch, switch_aliases, undo_switch
from reanimate.restores.verification import Depth, verify
from reanimate.runbooks.action import Action, ActionContext, Evidence, NoParams, Outcome, Params, target_of
from reanimate.runbooks.actions.people import order_notice
from reanimate.runbooks.look import expected_manifests, lineage, look_at, names_of
from reanimate.runbooks.restoring import (
    fault_began,
    note_failed,
    note_live,
    note_switching,
    note_undone,
    plan_item,
    restore_item,
)
from reanimate.switches.gateways import gateway_figures
from reanimate.vector.probes import probe_liveness

__all__ = ["RestoreCollections", "SwitchAliases", "VerifyCollections", "WaitForTarget"]

_ASK_FOR_HELP_AFTER_S = 30.0


class Patience(Params):
    """How long to wait for a server."""

    limit_s: Annotated[float, Field(gt=0)] = 600.0


class WaitForTarget(Action[Patience]):
    """Wait until the server answers again; after half a minute ask a person to start it."""

    name = "wait_for_target"
    params = Patience

    def describe(self, incident: Incident, params: Patience) -> str:
        return f"wait up to {params.limit_s:g} s until {target_of(incident)} answers"

    def limit_s(self, params: Patience) -> float:
        return params.limit_s + 10.0

    def said(self, evidence: Evidence) -> str:
        return f"the server answers after {evidence['waited_s']:g} s, version {evidence['version']}"

    async def act(self, context: ActionContext[Patience]) -> dict[str, Any]:
        server = context.services.vector(context.target)
        began = time.monotonic()
        good = 0
        while True:
            alive = await probe_liveness(server, context.services.settings.watch.timeout_s)
            good = good + 1 if alive.ok else 0
            waited = time.monotonic() - began
            if good >= 2:
                return {"waited_s": round(waited, 1), "version": alive.version}
            if waited > context.params.limit_s:
                raise CheckFailed(
                    f"{context.target} at {server.url} did not answer for {waited:.0f} s: {alive.detail}",
                    hint="start the server, then run `reanimate respond` again; reads stay where they are",
                )
            if waited > _ASK_FOR_HELP_AFTER_S:
                await order_notice(
                    context,
                    "start-server",
                    f"Please start {context.target}: recovery waits for it",
                    f"{server.url} is silent for {waited:.0f} s ({alive.detail}). Incident {context.incident.id}.",
                )
            await asyncio.sleep(0.3)


async def _expected(context: ActionContext[Any]) -> list[VectorManifest]:
    """Return what must be on the target, by the backups from before the fault."""
    return await asyncio.to_thread(expected_manifests, context.services, until=fault_began(context.incident))


async def _damaged(context: ActionContext[Any]) -> list[VectorManifest]:
    """Return what was backed up and is not on the target as it should be."""
    server = context.services.vector(context.target)
    ratio = context.services.settings.watch.min_count_ratio
    expected = await _expected(context)
    reports = await asyncio.gather(*(probe_data(server, manifest, ratio) for manifest in expected))
    role = context.services.settings.vector.target(context.target).role
    return [manifest for manifest, report in zip(expected, reports, strict=True) if losses(report, role)]


async def _manifest_of(context: ActionContext[Any], item: Mapping[str, Any]) -> VectorManifest:
    """Return the manifest that an item of the progress was restored from, out of its own repository."""
    repository = named(context.services.repositories, item.get("repository"))
    return await asyncio.to_thread(repository.catalog.get, item["backup_id"])


def _without_backup(incident: Incident, expected: Sequence[VectorManifest]) -> list[str]:
    """Return the names that the incident is about and that no backup holds."""
    names = incident.scope.get("collections") or []
    return [name for name in names if not any(manifest.answers_to(name) for manifest in expected)]


def _missed_writes(manifest: VectorManifest, figures: dict[str, dict[str, Any]]) -> int | None:
    """Return how many writes the gateways acknowledged since the backup; None when no figure covers it."""
    if manifest.gateway_totals is None or any("totals" not in figure for figure in figures.values()):
        return None
    now = sum(
        int(figure["totals"]["writes_acknowledged"].get(name, 0))
        for figure in figures.values()
        for name in names_of(manifest)
    )
    then = sum(int(manifest.gateway_totals.get(name, 0)) for name in names_of(manifest))
    return max(0, now - then)


class RestoreCollections(Action[NoParams]):
    """Restore what is missing or damaged from the newest good backup, each into a new collection beside the old.

    A backup that failed its proof, was taken after the fault began, or is unproven and looks odd, is passed over; one
    that turns out damaged or wrong on the way gives its place to the next.
    """

    name = "restore_collections"
    time_limit_s = 6 * 3600.0
    destructive = True
    undoes = "deletes the new collections and confirms that they are gone; nothing live was touched"

    def describe(self, incident: Incident, params: NoParams) -> str:
        names = ", ".join(incident.scope.get("collections") or ["every collection that is missing or damaged"])
        return f"restore {names} on {target_of(incident)} from the newest good backup, under new names"

    def said(self, evidence: Evidence) -> str:
        return "; ".join(
            f"{item['collection']} restored as {item['new_name']}: {item['points']:,} points from {item['backup_id']}"
            for item in evidence["restores"]
        )

    async def check_before(self, context: ActionContext[NoParams]) -> Outcome | None:
        if context.progress.get("restores"):
            return None
        if missing := _without_backup(context.incident, await _expected(context)):
            raise CheckFailed(
                f"{', '.join(missing)} cannot be restored on {context.target}: no backup holds it",
                hint="look for it elsewhere; `reanimate backup list` shows what there is",
            )
        if await _damaged(context):
            return None
        return Outcome(skipped="everything that was backed up is there: nothing to restore")

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        restores: list[dict[str, Any]] = context.progress.get("restores") or [
            await plan_item(context.services, manifest.entry_name, context.target, context.incident)
            for manifest in await _damaged(context)
        ]
        await context.save(restores=restores)
        figures = await gateway_figures(context.services, context.incident.opened_at)
        done = []
        for item in restores:
            began = time.monotonic()
            if not item.get("restored"):
                await restore_item(context.services, item, context.target, context.incident, context.save, restores)
            manifest = await _manifest_of(context, item)
            done.append(
                {
                    "collection": manifest.collection,
                    "backup_id": manifest.id,
                    "backup_taken_at": manifest.taken_at.isoformat(),
                    "backup_age_s": round((context.incident.opened_at - manifest.taken_at).total_seconds(), 1),
                    "new_name": item["name"],
                    "points": manifest.exact_count,
                    "writes_since": _missed_writes(manifest, figures),
                    "took_s": round(time.monotonic() - began, 2),
                    **{key: item.get(key) for key in ("repository", "why", "proof", "passed_over")},
                }
            )
        return {"restores": done}

    async def check_after(self, context: ActionContext[NoParams], evidence: dict[str, Any]) -> dict[str, Any]:
        server = context.services.vector(context.target)
        for item in context.progress["restores"]:
            # Every id was compared when it was loaded; here it only matters that nothing has happened since.
            found = await verify(server, item["name"], await _manifest_of(context, item), depth=Depth.QUICK)
            found.require(context.target)
        return {"verified": [item["name"] for item in context.progress["restores"]]}

    async def undo(self, context: ActionContext[NoParams]) -> dict[str, Any] | None:
        server = context.services.vector(context.target)
        aliased = set((await server.aliases()).values())
        removed = []
        for item in context.progress.get("restores", []):
            if item["name"] not in aliased:
                await server.delete_collection(item["name"])
                await note_failed(context.services, item, "undone by its incident")
                removed.append(item["name"])
        await context.save(restores=[])
        return {"removed": removed}


class SwitchAliases(Action[NoParams]):
    """Point the aliases at the restored collections, in one call each; the old collections are kept."""

    name = "switch_aliases"
    time_limit_s = 60.0
    destructive = True
    undoes = "points the aliases where they pointed before"

    def said(self, evidence: Evidence) -> str:
        moved = [pair for item in evidence["switched"].values() for pair in item["after"].items()]
        return "; ".join(f"{alias} points at {name}" for alias, name in moved)

    async def _restores(self, context: ActionContext[NoParams]) -> list[dict[str, Any]]:
        return await context.earlier(RestoreCollections.name, "restores")

    async def check_before(self, context: ActionContext[NoParams]) -> Outcome | None:
        if await self._restores(context):
            return None
        return Outcome(skipped="nothing was restored: the aliases stay")

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        server = context.services.vector(context.target)
        switched: dict[str, Any] = dict(context.progress.get("switched", {}))
        for item in await self._restores(context):
            manifest = await _manifest_of(context, item)
            if item["name"] not in switched:
                # Saved before the act: what stood before can only be read before.
                switched[item["name"]] = (await plan_switch(server, manifest, item["name"])).to_json()
                await context.save(switched=switched)
            planned = AliasSwitch.from_json(switched[item["name"]])
            await note_switching(context.services, item, planned)
            await switch_aliases(server, manifest, item["name"], planned)
            await note_live(context.services, item)
        return {"switched": switched}

    async def undo(self, context: ActionContext[NoParams]) -> dict[str, Any] | None:
        server = context.services.vector(context.target)
        switched: dict[str, Any] = context.progress.get("switched", {})
        for name, item in reversed(switched.items()):
            await undo_switch(server, AliasSwitch.from_json(item))
            await note_undone(context.services, context.target, name)
        await context.save(switched={})
        return {"put_back": [item["before"] for item in switched.values()]}


class VerifyCollections(Action[NoParams]):
    """Prove through the aliases that everything that was backed up is there and answers as it did."""

    name = "verify_collections"
    time_limit_s = 600.0

    def said(self, evidence: Evidence) -> str:
        return f"all {evidence['checks']} checks passed on {evidence['target']}"

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        items = await context.earlier(RestoreCollections.name, "restores")
        restored = {lineage(manifest): manifest for manifest in [await _manifest_of(context, item) for item in items]}
        server = context.services.vector(context.target)
        ratio = context.services.settings.watch.min_count_ratio
        role = context.services.settings.vector.target(context.target).role
        # What was restored must be as it was backed up, also where a newer backup was passed over.
        expected = [restored.get(lineage(manifest), manifest) for manifest in await _expected(context)]
        if not expected or (missing := _without_backup(context.incident, expected)):
            what = ", ".join(missing) if expected else f"anything on {context.target}"
            raise VerificationFailed(
                f"{context.target} answers, but no backup tells what should be there of {what}",
                hint="an empty server looks the same: look at the data yourself, then take a backup",
            )
        checks: list[dict[str, Any]] = []
        for manifest in expected:
            if lineage(manifest) in restored:
                found = await verify(server, names_of(manifest)[0], manifest)
                checks += [
                    {"collection": manifest.collection, "check": c.name, "passed": c.passed, "found": c.found}
                    for c in found.checks
                ]
            report = await probe_data(server, manifest, ratio)
            lost = losses(report, role)
            checks += [
                {
                    "collection": manifest.collection,
                    "check": f"probe {f.check}",
                    "passed": f not in lost,
                    "found": f.found,
                }
                for f in report.findings
            ]
        probe = await look_at(context.services, context.target, expected)
        checks.append({"check": "answers", "passed": probe.answers, "found": probe.detail})
        passed = all(check["passed"] for check in checks)
        await context.note(
            "verification",
            f"{sum(bool(c['passed']) for c in checks)} of {len(checks)} checks passed on {context.target}",
            passed=passed,
            checks=checks,
        )
        if not passed:
            bad = "; ".join(f"{c.get('collection', '')} {c['check']}: {c['found']}" for c in checks if not c["passed"])
            raise VerificationFailed(
                f"{context.target} is not verified: {bad}",
                hint="reads and writes stay held; see the incident's evidence",
            )
        return {"passed": True, "checks": len(checks), "at": context.now().isoformat(), "target": context.target}
