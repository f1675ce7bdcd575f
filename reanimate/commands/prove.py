"""`reanimate prove`: restore backups to scratch, hold them against their manifests, and keep the proof."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from reanimate.bootstrap import Services, open_services
from reanimate.commands.output import JsonFlag, err, id_column, out, print_json, run
from reanimate.commands.progress import Report, progress_bars
from reanimate.errors import ReanimateError
from reanimate.proofs.proof import Proof
from reanimate.protection.offline import Attempt, refresh_standbys
from reanimate.protection.proving import ToProve, newest_of, one_to_prove, proofs_due, prove_all

__all__ = ["app"]

app = typer.Typer()

_COLOURS = {"passed": "green", "failed": "red", "error": "yellow"}


@app.command()
def prove(
    subjects: Annotated[
        list[str] | None, typer.Argument(metavar="[COLLECTION]…", help="Collections, aliases or databases.")
    ] = None,
    backup: Annotated[str | None, typer.Option("--backup", metavar="ID", help="This backup, whatever its age.")] = None,
    due: Annotated[
        bool, typer.Option("--due", help="What is due: unproven, expired, and an older one a week.")
    ] = False,
    repository: Annotated[str | None, typer.Option(help="In this repository; else the first, with --due all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be proven, and why.")] = False,
    json: JsonFlag = False,
) -> None:
    """Prove backups: restore each to a scratch server, hold it against its manifest, and keep the dated proof.

    Without names the newest backup of everything. Nothing live is touched. Exit code 1 when one is not proven.
    """
    if sum((bool(subjects), backup is not None, due)) > 1:
        raise typer.BadParameter("give collections, or --backup, or --due")
    if dry_run:
        _show_chosen(run(lambda: _chosen(subjects or [], backup, due, repository)), json)
        return
    with progress_bars() as report:
        proofs, refreshed, problem = run(lambda: _prove(subjects or [], backup, due, repository, report))
    if json:
        print_json([proof.to_json() for proof in proofs])
    else:
        _show(proofs)
        _show_refreshed(refreshed, problem)
    if any(proof.outcome != "passed" for proof in proofs):
        raise typer.Exit(1)


async def _chosen(subjects: list[str], backup: str | None, due: bool, repository: str | None) -> list[ToProve]:
    async with open_services() as services:
        return await _choose(services, subjects, backup, due, repository)


async def _choose(
    services: Services, subjects: list[str], backup: str | None, due: bool, repository: str | None
) -> list[ToProve]:
    if backup is not None:
        return [await one_to_prove(services, backup, repository=repository)]
    if due:
        return await proofs_due(services, repository=repository)
    return await newest_of(services, subjects, repository=repository)


async def _prove(
    subjects: list[str], backup: str | None, due: bool, repository: str | None, report: Report
) -> tuple[list[Proof], list[Attempt], str]:
    async with open_services() as services:
        chosen = await _choose(services, subjects, backup, due, repository)
        proofs = await prove_all(services, chosen, trigger="command", on_progress=report)
        passed = sorted({proof.subject for proof in proofs if proof.outcome == "passed" and proof.kind == "vector"})
        if not passed:
            return proofs, [], ""
        try:
            return proofs, await refresh_standbys(services, collections=passed, on_progress=report), ""
        except ReanimateError as error:
            return proofs, [], str(error)


def _show_chosen(chosen: list[ToProve], json: bool) -> None:
    if json:
        print_json(
            [{"backup_id": each.backup.manifest.id, "repository": each.repository, "why": each.why} for each in chosen]
        )
        return
    if not chosen:
        err.print("Nothing is to be proven.")
        return
    table = Table(id_column("backup"), "of", "taken (UTC)", "repository", "why", box=None, pad_edge=False)
    for each in chosen:
        manifest = each.backup.manifest
        taken = f"{manifest.taken_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(manifest.id, escape(manifest.subject), taken, escape(each.repository), escape(each.why))
    out.print(table)


def _show(proofs: list[Proof]) -> None:
    if not proofs:
        err.print("Nothing was to be proven.")
        return
    table = Table(id_column("backup"), "of", "outcome", "took", "checks", "valid until", box=None, pad_edge=False)
    for proof in proofs:
        passed = sum(check.passed for check in proof.checks)
        outcome = f"[{_COLOURS[proof.outcome]}]{proof.outcome}[/]"
        until = f"{proof.expires_at:%Y-%m-%d}" if proof.expires_at else "–"
        checks = f"{passed} of {len(proof.checks)}" if proof.checks else "none"
        table.add_row(proof.backup_id, escape(proof.subject), outcome, f"{proof.took_s:.1f} s", checks, until)
    out.print(table)
    for proof in proofs:
        if proof.failed_checks:
            err.print(f"[red]{proof.backup_id} is not right:[/] {escape(proof.failed_checks)}")
        if proof.error:
            err.print(f"[yellow]{proof.backup_id}:[/] {escape(proof.error)}")


def _show_refreshed(refreshed: list[Attempt], problem: str) -> None:
    for attempt in refreshed:
        if attempt.problem:
            err.print(f"[yellow]{escape(attempt.standby)} keeps what it holds:[/] {escape(attempt.problem)}")
        elif attempt.refreshed is not None and attempt.refreshed.loaded:
            out.print(
                f"{escape(attempt.standby)} now serves backup {attempt.backup_id} of {escape(attempt.collection)}"
            )
    if problem:
        err.print(f"[yellow]the offline standby was not refreshed:[/] {escape(problem)}")
