"""What is read and copied at night stays whole in a terminal of 80 columns."""

import io
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from reanimate.clock import utcnow
from reanimate.commands.llm_output import holds_table
from reanimate.commands.quota_output import standings_table


def standing(meter: str, **changes: Any) -> dict[str, Any]:
    return {
        "quota": "support-hour", "tenant": "", "tenants": "support", "model": "*", "meter": meter, "share": 0.15,
        "spent": 27_171, "limit": 180_000, "granted_on_top": 0, "left": 152_829, "held": 0, "reserve": 20_000,
        "reserve_spent": 0, "alerts": [], "timezone": "Europe/Berlin",
        "resets_at": utcnow() + timedelta(minutes=40, seconds=30),
        **changes,
    }  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 140])
def test_quotas__numbers_are_whole_at_any_width(width: int) -> None:
    """No figure is cut off: of a quota that is nearly used up that would be the one that matters."""
    money = {"spent": 160_300_000, "limit": 4_500_000_000, "left": 4_339_700_000}
    view = {
        "currency": "USD",
        "quotas": [standing("tokens"), standing("money", **money), standing("requests", share=None)],
    }
    seen = io.StringIO()
    Console(file=seen, width=width).print(standings_table(view, width))
    shown = seen.getvalue()
    for expected in (
        "support-hour",
        "27,171",
        "180,000",
        "152,829",
        "15%",
        "0.1603",
        "4.50",
        "4.3397",
        "none",
        "40 min",
    ):
        assert expected in shown, shown
    assert "…" not in shown
    assert all(len(line) <= width for line in shown.splitlines())


def test_holds__scopes_and_causes_are_whole() -> None:
    """They are there to be copied into the next command."""
    hold = {
        "switch": "llm_cache", "scope": "tenant:sales", "value": "first", "cause": "inc-20261126-171759-7d1b",
        "reason": "kept answers come first while providers are in trouble", "placed_at": utcnow(),
    }  # fmt: skip
    seen = io.StringIO()
    Console(file=seen, width=80).print(holds_table([hold], narrow=True))
    for expected in ("llm_cache", "tenant:sales", "first", "inc-20261126-171759-7d1b"):
        assert expected in seen.getvalue()
    assert "…" not in seen.getvalue()
