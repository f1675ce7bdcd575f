"""`scripts/demo`: three real disasters, watched to their end. Every figure is measured, nothing is staged."""

import asyncio
import logging
import sys
import time
from typing import Annotated

import typer
from rich.rule import Rule

from reanimate.bootstrap import open_services
from reanimate.commands.output import err, fail, print_json
from reanimate.demo.agent import Agent
from reanimate.demo.chat_agent import ChatAgent
from reanimate.demo.disasters import SilencedProvider, delete_collection, kill_primary
from reanimate.demo.loading import ALIAS, chosen_passages, load_knowledge, protect
from reanimate.demo.local_providers import LocalProviders
from reanimate.demo.outcome import print_end, summary
from reanimate.demo.story import lives_through
from reanimate.demo.system import demo_home, running_system
from reanimate.errors import ReanimateError
from reanimate.incidents.lifecycle import State
from reanimate.logs import log_to_stderr

__all__ = ["main"]


def main(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running for a look around.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end on standard output.")] = False,
) -> None:
    """Start the whole system, break it three times, and watch it come back."""
    try:
        ok = asyncio.run(_demo(keep, json))
    except ReanimateError as error:
        raise fail(error) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not ok:
        raise typer.Exit(1)


async def _demo(keep: bool, json: bool) -> bool:
    began = time.monotonic()
    home = demo_home()
    err.print(Rule("1 · the system starts"))
    with LocalProviders() as providers:
        async with running_system(home, keep=keep, providers=providers) as addresses, open_services() as services:
            err.print(f"up after {time.monotonic() - began:.1f} s in {home}")
            for what, where in (
                ("incidents", addresses.web),
                ("Prefect", addresses.prefect_ui),
                ("gateway", addresses.gateway),
                *((f"vector {name}", url) for name, url in addresses.vector.items()),
                *((f"LLM {name}", url) for name, url in providers.urls.items()),
            ):
                err.print(f"  {what:<16} {where}", highlight=False)
            err.print(Rule("2 · a knowledge base is loaded, backed up and copied to the replica"))
            knowledge = chosen_passages()
            await load_knowledge(addresses.gateway, knowledge)
            await protect(services)
            agent = Agent(addresses.gateway, ALIAS, knowledge)
            chat = ChatAgent(addresses.gateway, [passage.title for passage in knowledge])
            async with agent.asking() as count, chat.asking() as streams:
                await asyncio.sleep(2)
                err.print(Rule("3 · disaster one: the primary is killed, and its disk is gone"))
                stories = [await lives_through(services, count, lambda: kill_primary(home))]
                await asyncio.sleep(1)
                err.print(Rule("4 · disaster two: somebody deletes the collection"))
                stories.append(await lives_through(services, count, lambda: delete_collection(services)))
                await asyncio.sleep(1)
                err.print(Rule("5 · disaster three: the main LLM provider hangs, then answers 429"))
                err.print("the agent and main speak OpenAI's API, spare speaks Anthropic's; what crosses is translated")
                silenced = SilencedProvider(providers)
                stories.append(await lives_through(services, streams, silenced.begin))
                await silenced.over()
            err.print(Rule("6 · how it went"))
            print_end(stories, agent.count, chat.count)
            ok = all(story.state == State.RECOVERED for story in stories)
            if json:
                print_json(summary(stories, agent.count, chat.count))
            if keep:
                err.print(
                    f"everything is still running: REANIMATE_HOME={home} reanimate status | down", highlight=False
                )
    err.print(f"the demo took {time.monotonic() - began:.0f} s", style="dim")
    return ok


if __name__ == "__main__":
    sys.argv[0] = "scripts/demo"
    log_to_stderr(logging.WARNING)
    typer.run(main)
