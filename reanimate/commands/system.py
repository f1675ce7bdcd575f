"""`reanimate up | down | status`."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from reanimate.addresses import Addresses
from reanimate.clock import utcnow
from reanimate.commands.output import JsonFlag, err, out, print_json, run
from reanimate.config import Settings, load_settings
from reanimate.errors import ServerFailed
from reanimate.supervisor.journal import read_journal, summarize
from reanimate.supervisor.lock import HomeLock, holder, wait_for_keeper, wait_until_ended, wait_until_free

__all__ = ["down", "status", "up"]

_COLOURS = {"ready": "green", "done": "green", "starting": "yellow", "waiting": "dim", "down": "red", "stopped": "dim"}
_DETACHED_READY_S = 240.0


def up(
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when all is ready; `reanimate down` ends it.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Start the whole system and keep it running until Ctrl-C, SIGTERM or `reanimate down`."""
    run(lambda: _detached(json) if detach else _foreground(json))


def down() -> None:
    """Stop the system; when this returns, no process of it is left."""
    run(_down)


def status(json: JsonFlag = False) -> None:
    """Show every part, how often it was restarted, whether it answers now, and what is open. Exit code 1 when down."""
    view = run(_status)
    if json:
        print_json(view)
    else:
        _print_status(view)
    if not view["running"]:
        raise typer.Exit(1)


async def _foreground(json: bool) -> None:
    from reanimate.commands.board import Board  # these two bring SQLAlchemy and Alembic, half a second that --help
    from reanimate.supervisor.system import run_system  # should not wait for

    settings = load_settings()
    with Board() as board:

        def on_ready(addresses: Addresses, parts: object) -> None:
            board.close()
            if json:
                print_json({"pid": os.getpid(), "home": str(settings.home), "addresses": asdict(addresses)})
            else:
                _print_addresses(settings, addresses)

        await run_system(settings, on_parts=board.expect, on_change=board.change, on_ready=on_ready)
    err.print("everything is stopped", style="dim")


async def _detached(json: bool) -> None:
    settings = load_settings()
    with HomeLock(settings.home):  # says at once that it runs already, or that the directory cannot be written
        log = settings.home / "logs" / "up.log"
        log.parent.mkdir(mode=0o700, exist_ok=True)
    process = _spawn_up(log)
    deadline = time.monotonic() + _DETACHED_READY_S
    try:
        while not _is_ready(settings.home, process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"reanimate up did not get ready: {_last_line(log)}")
            await asyncio.sleep(0.1)
    except BaseException:
        process.terminate()
        raise
    addresses = Addresses.load(settings.home)
    if json:
        print_json({"pid": process.pid, "home": str(settings.home), "addresses": asdict(addresses)})
    else:
        _print_addresses(settings, addresses)


def _spawn_up(log: Path) -> subprocess.Popen[bytes]:
    """Start `reanimate up` in a session of its own; what it says goes to `log`."""
    with log.open("wb") as target:
        return subprocess.Popen(
            [sys.executable, "-m", "reanimate.cli", "up"],
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            start_new_session=True,
        )


def _is_ready(home: Path, pid: int) -> bool:
    system = summarize(read_journal(home))
    return system is not None and system.pid == pid and system.ready


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip().removeprefix("error: ") if lines else "it said nothing"


async def _down() -> None:
    home = load_settings().home
    pid = holder(home)
    if pid is None and await asyncio.to_thread(wait_for_keeper, home, 0.0):
        err.print(f"nothing is running in {home}")
        return
    began = time.monotonic()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        if not await asyncio.to_thread(wait_until_free, home, 11.0):  # it needs ten at most
            os.kill(pid, signal.SIGKILL)  # the keeper ends the parts
        await asyncio.to_thread(wait_until_ended, pid, 2.0)  # it gives the lock back a moment before
    if not await asyncio.to_thread(wait_for_keeper, home):
        raise ServerFailed(f"parts of the system in {home} are still running", hint="see `reanimate status`")
    err.print(f"stopped in {time.monotonic() - began:.1f} s")


async def _status() -> dict[str, Any]:
    from reanimate.commands.look import look_at_parts, look_at_record  # brings SQLAlchemy, see above

    settings = load_settings()
    system = summarize(read_journal(settings.home))
    pid = holder(settings.home)
    view: dict[str, Any] = {
        "home": str(settings.home),
        "running": pid is not None,
        "ready": bool(pid is not None and system and system.ready),
        "pid": pid,
        "parts": [],
        "record": None,
    }
    if pid is not None and system is not None:
        view["since"] = system.started_at
        view["addresses"] = asdict(Addresses.load(settings.home))
        view["parts"], view["record"] = await asyncio.gather(look_at_parts(settings, system), look_at_record(settings))
    return view


def _print_addresses(settings: Settings, addresses: Addresses) -> None:
    table = Table("what", "where", title=f"reanimate runs in {settings.home}", title_justify="left")
    table.add_row("incidents, postmortems", addresses.web)
    table.add_row("Prefect: runs, schedules", addresses.prefect_ui)
    table.add_row("alerts, for senders", f"{addresses.web}/alerts/{{alertmanager,cloudevents}}")
    table.add_row("metrics, for Prometheus", f"{addresses.web}/metrics")
    table.add_row("gateway, for the agent", addresses.gateway)
    for name, url in addresses.vector.items():
        table.add_row(f"vector target {name}", url)
    out.print(table)
    err.print("`reanimate status` shows the parts, `reanimate down` stops them", style="dim")


def _print_status(view: dict[str, Any]) -> None:
    if not view["running"]:
        err.print(f"nothing is running in {view['home']}; `reanimate up` starts it")
        return
    word = "ready" if view["ready"] else "not ready yet"
    table = Table("part", "state", "pid", "restarts", "since", "answers", "where", title_justify="left")
    table.title = f"{view['home']} (pid {view['pid']}): {word}"
    for part in view["parts"]:
        colour = _COLOURS.get(part["state"], "")
        state = part["state"] + (f" ({part['last_exit']})" if part["last_exit"] and part["state"] == "down" else "")
        answers = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[part["healthy"]]
        age = _age((utcnow() - part["since"]).total_seconds())
        pid = str(part["pid"] or "")
        table.add_row(part["name"], f"[{colour}]{state}[/]", pid, str(part["restarts"]), age, answers, part["url"])
    out.print(table)
    record = view["record"]
    if "error" in record:
        err.print(f"[red]the record does not answer:[/] {record['error']}")
        return
    for incident in record["incidents"]:
        out.print(f"open: {incident['id']} {incident['severity'] or ''} {incident['state']}: {incident['title']}")
    for hold in record["holds"]:
        out.print(f"held: {hold['switch']} {hold['scope']} = {hold['value']} ({hold['cause']}: {hold['reason']})")
    for gateway in record["gateways"]:
        out.print(f"gateway {gateway['name']}: heard of {_age(gateway['silent_s'])} ago, obeys {gateway['acked_seq']}")
    if not record["incidents"]:
        out.print("no incident is open")


def _age(seconds: float) -> str:
    """Return a length of time in one unit: 12s, 3m, 5h, 2d."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"
