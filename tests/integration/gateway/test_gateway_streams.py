"""Bodies larger than what the gateway keeps: streamed both ways, and never cut silently."""

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator

import aiohttp
import pytest
from gateway_process import Gateway
from vector_target import VectorTarget


async def test_read__a_large_answer_that_breaks_off_is_never_a_clean_end(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget
) -> None:
    """Too large to be kept, so it cannot be failed over: the client's connection breaks as well."""
    primary.download_mib = 20
    primary.fault, primary.faulty = "cut late", "nothing else"
    with pytest.raises(aiohttp.ClientPayloadError):
        async with gateway.http.get(f"{gateway.url}/collections/kb/points/big") as answer:
            await answer.read()
    assert (await gateway.figures())["reads"]["failed"] == 1


async def test_read__a_large_body_is_streamed_and_not_failed_over(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget
) -> None:
    """Over 16 MiB it is not kept; on the healthy path it arrives whole."""
    body = os.urandom(17 * 1024 * 1024)
    status, answer, _ = await gateway.ask("POST", "/collections/kb/points/query", data=io.BytesIO(body))
    assert (status, answer["result"]["sent"]) == (200, len(body))
    assert primary.bodies[-1] == body
    body = os.urandom(5 * 1024 * 1024)
    await primary.stop()
    status, answer, _ = await gateway.ask("POST", "/collections/kb/points/query", data=io.BytesIO(body))
    assert (status, answer["result"]["served_by"]) == (200, "replica")
    assert replica.bodies[-1] == body


async def test_stream__large_uploads_and_downloads_pass_in_bounded_memory(
    gateway: Gateway, primary: VectorTarget
) -> None:
    """Snapshots are as large as the data; the gateway is not. Slow readers hold back the sender."""
    await gateway.query()
    before = gateway.rss_mb()
    block, count = os.urandom(1024 * 1024), 400
    digest = hashlib.sha256()
    for _ in range(count):
        digest.update(block)

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield block

    status, _, _ = await gateway.ask("POST", "/collections/kb/snapshots/upload", data=blocks())
    assert status == 200
    assert primary.uploaded == (count * len(block), digest.hexdigest())
    primary.download_mib = count
    size = 0
    async with gateway.http.get(f"{gateway.url}/collections/kb/snapshots/big") as answer:
        assert answer.headers["content-length"] == str(count * len(block))
        await asyncio.sleep(0.5)
        async for chunk in answer.content.iter_any():
            size += len(chunk)
    assert size == count * len(block)
    assert gateway.rss_mb() - before < 40


async def test_stream__a_client_that_leaves_a_download_ends_it_behind(gateway: Gateway, primary: VectorTarget) -> None:
    """Gigabytes are not fetched for nobody."""
    primary.download_mib = 2000
    async with gateway.http.get(f"{gateway.url}/collections/kb/snapshots/big") as answer:
        await answer.content.readexactly(1024 * 1024)
        answer.close()
    for _ in range(150):
        if primary.left:
            break
        await asyncio.sleep(0.02)
    assert primary.left == 1


async def test_stream__an_upload_that_breaks_off_is_not_ended_cleanly(gateway: Gateway, primary: VectorTarget) -> None:
    """Half a snapshot must not look like a whole one to the server, and nobody is blamed."""

    async def half() -> AsyncIterator[bytes]:
        yield b"x" * 4 * 1024 * 1024
        await asyncio.sleep(0.2)
        raise ConnectionAbortedError

    with pytest.raises((aiohttp.ClientError, ConnectionAbortedError)):
        await gateway.ask("POST", "/collections/kb/snapshots/upload", data=half())
    await asyncio.sleep(0.3)
    assert primary.uploaded is None
    figures = await gateway.figures()
    assert (figures["writes"]["abandoned"], figures["targets"]["primary"]["failures"]) == (1, 0)
