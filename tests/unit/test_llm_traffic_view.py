"""What people see of LLM traffic, in the terminal, from a gateway's figures."""

import io
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from reanimate.commands.top_view import draw
from reanimate.switches.llm_traffic import traffic_of

NOW = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)


def figures() -> dict[str, Any]:
    """Return figures of a gateway with quotas of tokens and of money."""
    quota = {"quota": "support-hour", "tenant": "", "pot": "normal", "share_left": 0.98}
    return {
        "llm": {
            "seconds": 10.0, "calls": {"asked": 0}, "samples": 0, "failed": 0, "tokens": 0, "cost": 0.0,
            "error_rate": 0.0, "p50_ms": None, "p95_ms": None, "p99_ms": None, "first_token_p99_ms": None,
            "cache_results": {}, "cache": {"entries": 0, "memory_bytes": 0, "disk_bytes": 0},
            "policies": {"level": "normal", "waiting": {}, "rules": []}, "underway": {"calls": 0, "streams": 0},
            "health": {}, "targets": {}, "routes": {}, "currency": "EUR",
            "quota": [
                {**quota, "meter": "tokens", "spent": 3025, "limit": 180_000},
                {**quota, "meter": "money", "spent": 13_700_000, "limit": 4_500_000_000},
            ],
        }
    }  # fmt: skip


def test_quota__amounts_are_said_as_people_read_them() -> None:
    """The ledger counts money in billionths: nobody is shown those."""
    traffic = [traffic_of("gateway", figures(), [])]
    seen = io.StringIO()
    Console(file=seen, width=80).print(draw(traffic, NOW))
    for expected in ("3,025 tokens", "180,000 tokens", "0.0137 EUR", "4.50 EUR", "shared"):
        assert expected in seen.getvalue()
    assert "4,500,000,000" not in seen.getvalue()
    assert all(len(line.rstrip()) <= 80 for line in seen.getvalue().splitlines())
