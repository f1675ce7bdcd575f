"""`reanimate incident …`: list, show, open, close and verify incidents from a terminal."""

import getpass
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from reanimate.bootstrap import Services, open_services
from reanimate.clock import utcnow
from reanimate.commands.output import JsonFlag, err, id_column, is_narrow, out, print_json, run
from reanimate.errors import InputInvalid
from reanimate.incidents import record, timeline
from reanimate.incidents.faults import Fault
from reanimate.incidents.timeline import ChainReport
from reanimate.incidents.views import View, incident_list, incident_view
from reanimate.incidents.wording import clock_time, duration, moment, share, words
from reanimate.response.by_hand import open_by_hand

__all__ = ["app"]

app = typer.Typer(help="Incidents: list, show, open, close, verify.", no_args_is_help=True)

IncidentId = Annotated[str, typer.Argument(metavar="ID", help="As `reanimate incident list` shows it.")]

_TONE = {"bad": "bold red", "busy": "bold blue", "good": "bold green", "idle": "dim"}
_STATE_STYLE = {
    "done": "green",
    "running": "blue",
    "failed": "red",
    "undone": "yellow",
    "recovered": "green",
    "escalated": "bold red",
}
_GLYPH = {"done": "✓", "running": "●", "failed": "✕", "skipped": "–", "undone": "↺", "waiting": "○"}


def _styled(state: str, text: str | None = None) -> str:
    style = _STATE_STYLE.get(state, "")
    shown = escape(text or state)
    return f"[{style}]{shown}[/]" if style else shown


@app.command("list")
def list_incidents(
    state: Annotated[
        str | None, typer.Option(help="Only those in this state; `open` for all that need something.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    json: JsonFlag = False,
) -> None:
    """List incidents, those still open first."""
    found = run(lambda: _list(state, limit))
    if json:
        print_json(found)
        return
    if not found:
        err.print("No incident" + (f" is in state {escape(state)}." if state else " has been opened."))
        return
    out.print(_list_table(found, narrow=is_narrow()))


def _list_table(found: list[dict[str, Any]], *, narrow: bool) -> Table:
    """Return incidents as a table; a narrow one leaves out the day, which the id has, and the objective."""
    table = Table(id_column("id"), id_column("P" if narrow else "severity"), id_column("state"), "what", box=None)
    table.pad_edge = False
    for title in ("took",) if narrow else ("opened (UTC)", "took", "of its objective"):
        table.add_column(title)
    for item in found:
        clock = item["clock"]
        spent = f"{share(clock['share'])} of {duration(clock['rto_s'])}" if clock["rto_s"] else "none set"
        own = [item["id"], item["severity"] or "–", _styled(item["state"]), escape(item["title"])]
        took = duration(clock["spent_s"])
        opened = moment(item["opened_at"]).removesuffix(" UTC")
        missed = clock["state"] == "missed"
        if narrow:
            table.add_row(*own, f"[red]{took}[/]" if missed else took)
        else:
            table.add_row(*own, opened, took, f"[red]{spent}, missed[/]" if missed else spent)
    return table


async def _list(state: str | None, limit: int) -> list[View]:
    async with open_services() as services:
        return await incident_list(services, state=state, limit=limit)


@app.command("show")
def show_incident(incident_id: IncidentId, json: JsonFlag = False) -> None:
    """Show one incident: what happens now, its phases, faults, holds and timeline."""
    view = run(lambda: _show(incident_id))
    if json:
        print_json(view)
        return
    _print_header(view)
    out.print(_phases_tree(view))
    _print_faults_and_holds(view)
    out.print(_timeline_table(view))
    chain = view["chain"]
    out.print(f"[{'green' if chain['ok'] else 'bold red'}]{escape(chain['detail'])}[/]", highlight=False)


async def _show(incident_id: str) -> View:
    async with open_services() as services:
        return await incident_view(services, incident_id)


def _print_header(view: View) -> None:
    incident, clock, figures = view["incident"], view["clock"], view["figures"]
    lines = [
        f"[bold]{escape(incident['title'])}[/]",
        f"{incident['id']} · {incident['severity'] or 'no severity yet'} · {_styled(incident['state'])} · "
        f"{escape(incident['agent'])} · {escape(incident['component'])}",
        f"[{_TONE[view['headline']['tone']]}]{escape(view['headline']['text'])}[/]",
    ]
    if clock["rto_s"]:
        lines.append(
            f"objective: {share(clock['share'])} of {duration(clock['rto_s'])} spent, due {moment(clock['deadline'])}: "
            f"{clock['state']}"
        )
    lines.append(
        f"noticed after {duration(figures['detect_s'])} · contained in {duration(figures['contain_s'])} · "
        f"recovered in {duration(figures['recover_s'])}"
    )
    lines += [url for url in (view["links"]["page"], view["links"]["prefect_run"]) if url]
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)


def _phases_tree(view: View) -> Tree:
    tree = Tree("[bold]Phases[/]")
    for phase in view["phases"]:
        took = f" {duration(phase['duration_s'])}" if phase["duration_s"] is not None else ""
        branch = tree.add(_styled(phase["state"], f"{_GLYPH[phase['state']]} {phase['phase']}") + took)
        for step in phase["steps"]:
            leaf = branch.add(
                _styled(step["state"], f"{_GLYPH[step['state']]} {words(step['step'])} ({step['state']})")
            )
            for action in step["actions"]:
                again = f", attempt {action['attempts']}" if action["attempts"] > 1 else ""
                wrong = f" [red]{escape(action['error'])}[/]" if action["error"] else ""
                done = f"{_styled(action['state'])} {duration(action['duration_s'])}"
                leaf.add(f"{words(action['action'])}: {done}{again}{wrong}")
    return tree


def _print_faults_and_holds(view: View) -> None:
    for fault in view["faults"]:
        said = (
            f"[bold]fault[/] {words(fault['fault'])} at {escape(fault['component'])}, {share(fault['confidence'])} sure"
        )
        out.print(said, highlight=False, soft_wrap=True)
    for hold in view["holds"]:
        if hold["in_force"]:
            held = f"{hold['switch']} of {hold['scope']} = {hold['value']}: {hold['reason']}"
            out.print(f"[bold yellow]hold in force[/] {escape(held)}", highlight=False, soft_wrap=True)


def _timeline_table(view: View) -> Table:
    table = Table(
        "#", "UTC", "kind", "what happened", "by", box=None, pad_edge=False, title="Timeline", title_justify="left"
    )
    for entry in view["timeline"]:
        at, said = clock_time(entry["at"]), escape(entry["message"])
        table.add_row(str(entry["seq"]), at, entry["kind"], said, escape(entry["actor"]))
    return table


@app.command("open")
def open_incident(
    fault: Annotated[str, typer.Option(help="One of the thirteen faults, or unknown.")],
    component: Annotated[str, typer.Option(help="What is concerned, for example vector:primary.")],
    summary: Annotated[str, typer.Option(help="One line for people.")],
    collection: Annotated[list[str] | None, typer.Option(help="A collection concerned; may be repeated.")] = None,
    json: JsonFlag = False,
) -> None:
    """Open an incident by hand; the response starts as it does for an alert."""
    opened = run(lambda: _open(fault, component, summary, collection or []))
    if json:
        print_json(opened)
    else:
        out.print(opened["id"], highlight=False)
        err.print(opened["url"], highlight=False, soft_wrap=True)


async def _open(fault: str, component: str, summary: str, collections: list[str]) -> dict[str, Any]:
    if fault not in set(Fault):
        raise InputInvalid(f"no fault is called {fault!r}", hint=f"faults are: {', '.join(Fault)}")
    async with open_services() as services:
        incident_id = await open_by_hand(
            services,
            fault=Fault(fault),
            component=component,
            summary=summary,
            collections=collections,
            actor=_who(),
        )
        return {"id": incident_id, "url": f"{services.addresses.web}/incidents/{incident_id}", "fault": fault}


def _who() -> str:
    """Return the name of the person at this terminal, as far as the system knows it."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (OSError, KeyError):  # a container's user without a name
        return "command line"


@app.command("close")
def close_incident(
    incident_id: IncidentId,
    reason: Annotated[str, typer.Option(help="Why it ends; kept on the timeline.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonFlag = False,
) -> None:
    """End an incident by hand. Its holds stay in force until they are lifted."""
    if not yes:
        typer.confirm(f"Close {incident_id}? Its response stops; its holds stay.", abort=True, err=True)
    closed = run(lambda: _close(incident_id, reason, utcnow()))
    if json:
        print_json(closed)
        return
    err.print(f"{closed['id']}: [bold]{closed['state']}[/]", highlight=False)
    for hold in closed["holds_left"]:
        held = f"{hold['switch']} of {hold['scope']} = {hold['value']}"
        err.print(f"[bold yellow]still held:[/] {escape(held)}", highlight=False)
    if closed["holds_left"]:
        err.print(f"`reanimate hold lift --cause {closed['id']}` lets the traffic go where it went before")


async def _close(incident_id: str, reason: str, now: datetime) -> dict[str, Any]:
    async with open_services() as services:
        async with services.sessions.begin() as session:
            await record.close(session, incident_id, reason=reason, by=_who(), now=now)
        view = await incident_view(services, incident_id)
    left = [hold for hold in view["holds"] if hold["in_force"]]
    return {"id": incident_id, "state": view["incident"]["state"], "holds_left": left}


@app.command("verify")
def verify_incident(incident_id: IncidentId, json: JsonFlag = False) -> None:
    """Recompute the hash chain of an incident's timeline; exit 1 if an entry is not what was written."""
    report = run(lambda: _verify(incident_id))
    if json:
        print_json(report)
    else:
        err.print(f"[{'green' if report.ok else 'bold red'}]{report.detail}[/]", highlight=False)
    if not report.ok:
        raise typer.Exit(1)


async def _verify(incident_id: str) -> ChainReport:
    async with open_services() as services:
        return await _report(services, incident_id)


async def _report(services: Services, incident_id: str) -> ChainReport:
    async with services.sessions() as session:
        return await timeline.verify(session, incident_id)
