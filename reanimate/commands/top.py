"""`reanimate top`: the LLM traffic of the gateways, live."""

import asyncio
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.live import Live

from reanimate.bootstrap import Services, open_services
from reanimate.clock import utcnow
from reanimate.commands.output import JsonFlag, out, print_json, run
from reanimate.commands.top_view import draw
from reanimate.switches.llm_traffic import llm_traffic

__all__ = ["app"]

app = typer.Typer()


@app.command()
def top(
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    json: JsonFlag = False,
    window: Annotated[float, typer.Option(min=1, max=3600, help="Count over the last so many seconds.")] = 10.0,
    every: Annotated[float, typer.Option(min=0.2, help="Look again each so many seconds.")] = 1.0,
) -> None:
    """Watch LLM traffic live: providers, routes, tokens, cost, cache, quota, level, and the newest failed calls."""
    run(lambda: _watch(once or not out.is_terminal, json, timedelta(seconds=window), every))


async def _watch(once: bool, json: bool, window: timedelta, every: float) -> None:
    async with open_services() as services:
        if json:
            print_json(await _look(services, window))
        elif once:
            out.print(draw(await _look(services, window), utcnow()))
        else:
            with Live(console=out, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(draw(await _look(services, window), utcnow()), refresh=True)
                    await asyncio.sleep(every)


async def _look(services: Services, window: timedelta) -> list[dict[str, Any]]:
    return await llm_traffic(services, window)
