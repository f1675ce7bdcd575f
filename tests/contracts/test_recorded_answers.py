"""Every recorded exchange with a real server, played again in order: status, headers and body must be the same."""

import copy
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest
from qdrant_server import QdrantServer
from recorded import Exchange, Player, differences, exchanges

EXCHANGES = exchanges()

NOT_DONE = {
    "search matrix": "distance matrices",
    "query groups": "grouped queries",
    "full snapshot": "snapshots of the whole storage",
    "full snapshots": "snapshots of the whole storage",
    "telemetry": "telemetry",
}
"""What the standby answers with 501 by name: none of it is needed to stand in for a server in an emergency."""

REFUSED = {
    "shard upload into another dimension": (400, "Wrong input: Vectors configuration is not compatible"),
    "query after another dimension": (400, "Wrong input: Vector dimension error: expected dim: 4, got 8"),
}
"""A server takes a shard with vectors of another length and serves it. The standby refuses it, and says the rest so."""

EMPTY = {"count after another dimension": 0}
"""…and so the collection stays as it was."""


@pytest.fixture(scope="module")
async def answers(
    qdrant: QdrantServer, client: httpx.AsyncClient
) -> AsyncIterator[tuple[Player, dict[str, httpx.Response | None]]]:
    """Play all exchanges once, in order; the answer is None where the keys for it are not known."""
    player = Player(qdrant, client, f"t{uuid.uuid4().hex[:8]}_")
    played: dict[str, httpx.Response | None] = {}
    try:
        for exchange in EXCHANGES:
            played[exchange.name] = await player.play(exchange) if player.possible(exchange) else None
        yield player, played
    finally:
        await player.clean()


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.name.replace(" ", "_"))
async def test_answer__is_as_recorded(
    exchange: Exchange, qdrant: QdrantServer, answers: tuple[Player, dict[str, httpx.Response | None]]
) -> None:
    """The answer is what a real server answered, or one of the few differences that are listed above."""
    player, played = answers
    answer = played[exchange.name]
    if answer is None:
        pytest.skip("not for this server: its key is not known, or it is about all that the server holds")
    if qdrant.is_standby and exchange.name in NOT_DONE:
        assert answer.status_code == 501
        name = NOT_DONE[exchange.name]
        assert answer.json()["status"]["error"] == f"Not implemented by the reanimate standby server: {name}"
    elif qdrant.is_standby and exchange.name in REFUSED:
        status, start = REFUSED[exchange.name]
        assert answer.status_code == status
        assert answer.json()["status"]["error"].startswith(start)
    elif qdrant.is_standby and exchange.name in EMPTY:
        assert answer.json()["result"]["count"] == EMPTY[exchange.name]
    else:
        assert differences(exchange, answer, player.plain) == []


def _changed(exchange: Exchange, **changes: object) -> Exchange:
    return Exchange(exchange.name, exchange.request, {**copy.deepcopy(exchange.response), **changes})


def _as_answer(exchange: Exchange) -> httpx.Response:
    recorded = exchange.response
    headers = {k: v for k, v in recorded["headers"].items() if k == "content-type"}
    return httpx.Response(recorded["status"], headers=headers, json=recorded["json"])


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["result"]["points"][0].update(score=0.9),
        lambda body: body["result"]["points"][0].update(id=6),
        lambda body: body["result"]["points"].pop(),
        lambda body: body["result"]["points"][0]["payload"].pop("lang"),
        lambda body: body.update(status="acknowledged"),
        lambda body: body["result"].update(more=1),
    ],
    ids=["score", "id", "one less", "payload", "status", "one more key"],
)
def test_comparison__notices(change: object) -> None:
    """The comparison fails when an answer differs in something that is promised."""
    exchange = next(one for one in EXCHANGES if one.name == "query")
    assert differences(exchange, _as_answer(exchange), lambda value: value) == []
    body = copy.deepcopy(exchange.response["json"])
    change(body)  # type: ignore[operator]
    assert differences(exchange, _as_answer(_changed(exchange, json=body)), lambda value: value) != []


def test_comparison__notices_another_error() -> None:
    """An error must have the code and the words that were recorded."""
    exchange = next(one for one in EXCHANGES if one.name == "missing collection, info")
    other = {"status": {"error": "Not found: Collection `other` doesn't exist!"}, "time": 0}
    assert differences(exchange, _as_answer(_changed(exchange, json=other)), lambda value: value) != []
    assert differences(exchange, _as_answer(_changed(exchange, status=400)), lambda value: value) != []
