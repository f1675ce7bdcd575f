"""In which order a gateway obeys a switch document."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reanimate.gateway.switchboard import Switchboard
from reanimate.switches.document import Claim, SwitchDocument, sign

KEY = "key"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
KILL = Claim("llm_kill", "tenant:bad", "kill")


async def test_take__what_is_ended_by_it_is_told_before_anything_is_logged_or_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that is killed hears of it in the loop's next turn: nothing that takes longer comes in between."""
    caplog.set_level(logging.WARNING)
    file = tmp_path / "switches.json"
    order: list[str] = []

    def killed() -> None:
        order.append(f"told, logged {bool(caplog.records)}, kept {file.exists()}")

    def obey(claims: tuple[Claim, ...]) -> None:
        assert claims == (KILL,)
        asyncio.get_running_loop().call_soon(killed)

    switchboard = Switchboard(file, KEY, (obey,))
    switchboard.on_obeyed.append(lambda _: order.append("the other processes are told"))
    document = SwitchDocument("one", NOW, 1, NOW, NOW + timedelta(seconds=30), (KILL,))
    body = document.encode()
    taken = await switchboard.take(body, {"x-reanimate-signature": sign(body, KEY)}, NOW)
    assert taken == document
    assert order == ["the other processes are told", "told, logged False, kept False"]
    assert "llm_kill tenant:bad = kill" in caplog.text
    assert json.loads(file.read_bytes())["signature"] == sign(body, KEY)
