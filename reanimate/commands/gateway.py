"""`reanimate gateway [check]`: the gateway alone in the foreground; or a look at whom it would ask."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from reanimate.commands.output import JsonFlag, err, out, print_json, run
from reanimate.commands.parts import part_command
from reanimate.config import load_settings
from reanimate.errors import NotFound
from reanimate.gateway.llm.catalogue import Catalogue, Target
from reanimate.gateway.llm.checking import Trial, check

__all__ = ["app"]

app = typer.Typer(invoke_without_command=True)

_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[bold red]fail[/]"}
_become = part_command("gateway")


@app.callback()
def gateway(context: typer.Context) -> None:
    """Run the gateway alone, in the foreground (`reanimate up` runs all parts); or `check` whom it would ask."""
    if context.invoked_subcommand is None:
        _become(context)


@app.command("check")
def check_targets(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ROUTE|PROVIDER/MODEL]...", help="Whom to try; everybody if none.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for each answer.")] = 30.0,
    json: JsonFlag = False,
) -> None:
    """Ask each LLM provider, model and key something tiny (some 100 tokens each), and say what to do about what fails.

    An answer, a stream, and a call of a tool where the settings say that the model can. Nothing else is changed by it:
    no switch, no breaker, no quota. Exit code 1 when something fails.
    """
    catalogue = Catalogue(load_settings().llm)
    trials = run(lambda: _check(catalogue, names or [], timeout))
    failed = sum(trial.level == "fail" for trial in trials)
    if json:
        print_json([asdict(trial) for trial in trials])
    else:
        out.print(_table(trials))
        tokens = sum(trial.tokens for trial in trials)
        cost = sum(catalogue.targets[trial.target].price(trial.tokens, 0) for trial in trials)
        price = f", about {cost:.6f} {catalogue.settings.currency}" if cost else ""
        words = f"{failed} of {len(trials)} fail" if failed else f"nothing fails ({len(trials)} tried)"
        err.print(f"{words}; {tokens} tokens{price}", highlight=False)
    if failed:
        raise typer.Exit(1)


async def _check(catalogue: Catalogue, names: Iterable[str], timeout: float) -> list[Trial]:
    """Try the targets of these names.

    Raises:
        NotFound: nothing is called so, or there is nobody to ask.
    """
    targets = {target.name: target for name in names for target in _targets(catalogue, name)} or catalogue.targets
    if not targets:
        raise NotFound("no LLM provider is configured", hint="put one into [[llm.providers]] of reanimate.toml")
    return await check(targets.values(), timeout)


def _targets(catalogue: Catalogue, name: str) -> list[Target]:
    if name in catalogue.targets:
        return [catalogue.targets[name]]
    if (route := catalogue.routes.get(name)) is not None:
        return [choice.target for choice in (*route.targets, *route.cheaper)]
    if of_provider := [target for target in catalogue.targets.values() if target.provider.name == name]:
        return of_provider
    there_are = ", ".join((*catalogue.routes, *catalogue.targets)) or "none"
    raise NotFound(f"no route, provider or model is called {name!r}", hint=f"there are {there_are}")


def _table(trials: Iterable[Trial]) -> Table:
    table = Table(
        "", "target", "key", "tried", Column("ms", justify="right"), Column("first token", justify="right"),
        "model that answered", Column("found", overflow="fold"), Column("what to do", overflow="fold"),
    )  # fmt: skip
    for trial in trials:
        times = ("" if ms is None else f"{ms:.0f}" for ms in (trial.ms, trial.first_token_ms))
        told = (trial.target, trial.key or "none", trial.what, *times, trial.model, trial.found, trial.to_do)
        table.add_row(_MARKS[trial.level], *map(escape, told))
    return table
