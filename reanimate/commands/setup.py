"""`reanimate init | doctor`."""

from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from reanimate.commands.output import JsonFlag, err, fail, out, print_json, run
from reanimate.config import default_home, load_settings, settings_file
from reanimate.errors import ConfigInvalid, Refused
from reanimate.files import write_atomically
from reanimate.secrets import Secrets
from reanimate.supervisor.lock import make_home

__all__ = ["doctor", "init", "settings_template"]

_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[bold red]fail[/]"}


def settings_template() -> str:
    """Return the commented settings file that `init` writes; as it stands it changes nothing."""
    return resources.files("reanimate.commands").joinpath("settings.toml").read_text(encoding="utf-8")


def init(
    force: Annotated[bool, typer.Option("--force", help="Keep the present file as .old and write a new one.")] = False,
) -> None:
    """Write a commented reanimate.toml, make this installation's secrets, and say what comes next."""
    path, home = settings_file(), default_home()
    try:
        make_home(home)
        _write(path, force=force)
        Secrets.load_or_create(home)
    except (Refused, ConfigInvalid) as error:
        raise fail(error) from None
    except OSError as error:
        hint = "give yourself the right to, or set REANIMATE_HOME to another directory"
        raise fail(ConfigInvalid(f"cannot write {error.filename or home}: {error.strerror}", hint=hint)) from None
    err.print(f"settings: {path}\nsecrets:  {Secrets.file(home)} (readable by you only)", highlight=False)
    err.print("next: `reanimate doctor` looks everything over, `reanimate up` starts it", highlight=False)


def _write(path: Path, *, force: bool) -> None:
    if path.exists():
        if not force:
            raise Refused(f"{path} exists and is left as it is", hint="--force keeps it as .old and writes a new one")
        path.replace(path.with_name(f"{path.name}.old"))
    write_atomically(path, settings_template().encode(), mode=0o600)  # people put credentials into it


def doctor(json: JsonFlag = False) -> None:
    """Look everything over and say what to do about each finding. Exit code 1 when something fails."""
    from reanimate.doctor.examine import examine  # brings database, blob and vector clients, half a second

    findings = run(lambda: examine(load_settings()))
    failed = sum(finding.level == "fail" for finding in findings)
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        table = Table("", "about", Column("found", overflow="fold"), Column("what to do", overflow="fold"))
        for finding in findings:
            table.add_row(_MARKS[finding.level], *map(escape, (finding.about, finding.found, finding.to_do)))
        out.print(table)
        err.print(f"{failed} of {len(findings)} fail" if failed else f"nothing fails ({len(findings)} looked at)")
    if failed:
        raise typer.Exit(1)
