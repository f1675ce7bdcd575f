"""`python -m reanimate.demo.provider --port 0 --name main`: one line with its URLs when it is ready, then it serves."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from typing import Annotated

import typer
import uvloop

from reanimate.demo.provider.behaviour import Behaviour
from reanimate.demo.provider.server import Provider
from reanimate.errors import ReanimateError

__all__ = ["main"]

_LOOK_EVERY_S = 0.5


def main(
    port: Annotated[int, typer.Option(help="The port to listen on; 0 for a free one.")] = 0,
    name: Annotated[str, typer.Option(help="Its name; each answer carries it in `x-stand-in`.")] = "main",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    tokens: Annotated[int, typer.Option(help="How many tokens an answer has.")] = 24,
    token_ms: Annotated[float, typer.Option(help="Time between two tokens of a stream.")] = 0.0,
    think_ms: Annotated[float, typer.Option(help="Time before an answer begins.")] = 0.0,
    follow: Annotated[int, typer.Option(help="End when the process with this id has ended.")] = 0,
    record: Annotated[bool, typer.Option(help="Keep what was called, for `GET /_calls`.")] = True,
) -> None:
    """Run a stand-in for a provider of language models until SIGTERM or SIGINT."""
    behaviour = Behaviour(tokens=tokens, token_ms=token_ms, think_ms=think_ms)
    provider = Provider(name, host=host, port=port, behaviour=behaviour, record=record)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(provider, follow))
    except ReanimateError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


async def _serve(provider: Provider, follow: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with provider:
        print(f"{provider.url} administration {provider.admin_url}", flush=True)
        gc.collect()
        gc.freeze()
        following = asyncio.create_task(_follow(follow, stop)) if follow else None
        await stop.wait()
        if following is not None:
            following.cancel()


async def _follow(pid: int, stop: asyncio.Event) -> None:
    """Stop when a process is gone."""
    while not stop.is_set():
        try:
            os.kill(pid, 0)
        except OSError:
            stop.set()
        await asyncio.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    typer.run(main)
