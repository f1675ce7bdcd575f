"""What is held back at a stream's beginning is the bare name of a tool, and that not for long."""

import asyncio
from pathlib import Path

import orjson
from llm_gateway import llm_gateway_for, provider_toml, route_toml, write_settings
from raw_server import Peer, serving

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


def event(**data: object) -> bytes:
    return f"event: {data['type']}\n".encode() + b"data: " + orjson.dumps(data) + b"\n\n"


async def heard_before_the_end(home: Path, wire: str, begins: bytes, sign: bytes, path: str, is_there: bytes) -> None:
    """Ask a provider that begins so, and then gives but signs of life, if any: see to it that the caller hears it."""
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(HEAD + begins)
        while sign and not done.is_set():
            await asyncio.sleep(0.2)
            await peer.say(sign)
        await done.wait()

    async with serving(script) as raw:
        url = raw.url.removesuffix("/v1")
        write_settings(
            home, provider_toml("main", url, wire), route_toml("chat", ["main/model"], hedge=False, idle_s=30)
        )
        async with llm_gateway_for(home) as gateway, asyncio.timeout(60):
            said = [{"role": "user", "content": "look"}]
            fields = {"input": said} if path == "/v1/responses" else {"messages": said, "max_tokens": 100}
            async with gateway.http.post(
                gateway.url + path, json={"model": "chat", "stream": True, **fields}
            ) as answer:
                heard = b""
                while is_there not in heard:
                    more = await answer.content.readany()
                    assert more, f"it ended with {heard!r}"
                    heard += more
                done.set()


async def test_a_tool_that_the_provider_runs_itself_is_shown_at_once(tmp_path: Path) -> None:
    """It has no name and no arguments: that it is underway is what its events are for."""
    response = {"id": "resp_1", "model": "model", "created_at": 1, "output": []}
    begins = event(type="response.created", response=response) + event(
        type="response.output_item.added", output_index=0, item={"type": "web_search_call", "id": "ws_1"}
    )
    await heard_before_the_end(tmp_path, "openai", begins, b"", "/v1/responses", b"web_search_call")


async def test_the_name_of_a_tool_is_not_held_for_ever(tmp_path: Path) -> None:
    """Arguments of some models take long: who shows the tool's name, or waits for a sign of life, gets both."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    begins = event(type="message_start", message={"id": "msg_1", "model": "model", "usage": usage}) + event(
        type="content_block_start", index=0, content_block={"type": "tool_use", "id": "t", "name": "look", "input": {}}
    )
    await heard_before_the_end(tmp_path, "anthropic", begins, event(type="ping"), "/v1/messages", b'"name":"look"')
