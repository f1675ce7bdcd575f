"""The dashboard asks only for what a gateway exports, in queries that Prometheus itself takes."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from llm_answers_by_hand import route_of
from llm_calls import call_of
from prometheus_client.parser import text_string_to_metric_families

from reanimate.gateway.llm.accounts.figures import Figures
from reanimate.gateway.llm.accounts.genai import GenAi
from reanimate.gateway.llm.accounts.metrics import render
from reanimate.gateway.llm.call import Attempt, Call, Ending, Usage
from reanimate.gateway.llm.failures import Rejected

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
DASHBOARD = DEPLOYMENTS / "grafana-dashboard.json"
RULES = DEPLOYMENTS / "prometheus-rules.yml"
STEP = {"$__rate_interval": "1m", "$instance": ".*"}
STATE: dict[str, Any] = {
    "policies": {"level": "normal", "waiting": {"*": 0}},
    "quota": [{"quota": "month", "tenant": "*", "meter": "tokens", "pot": "normal", "share_left": 0.5}],
    "cache": {"memory_bytes": 1, "disk_bytes": 1, "entries": 1, "stored": 1, "corrupt": 0},
    "health": {"main/large": {"standing": "closed"}},
    "underway": {"calls": 1, "streams": 1},
}


def _exported() -> set[str]:
    """Return the names of all series that a gateway exports after a call of each kind."""
    figures, genai = Figures(lambda: 1_000.0), GenAi()
    for call in _calls():
        figures.ended(call, 12.0)
        genai.ended(call, 12.0)
    text = render({**figures.lifetime(), **STATE}, genai)
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def _calls() -> Iterator[Call]:
    catalogue = route_of()
    targets = catalogue.targets
    for ending in (Ending.ANSWERED, Ending.FAILED):
        call = call_of({"model": "chat", "stream": True}, catalogue=catalogue)
        call.began, call.ending, call.usage = 10.0, ending, Usage(5, 5)
        call.attempts += [
            Attempt(targets["main/large"], None, 10.0, ended=11.0, lost_race=True, usage=Usage(5, 0)),
            Attempt(targets["spare/small"], None, 10.1, "hedge", 10.2, 10.3, 12.0, 200, served=True, finish="stop",
                    usage=Usage(5, 5)),
        ]  # fmt: skip
        if ending is Ending.FAILED:
            call.error = Rejected(502, "all_failed", "no")
        yield call


def _queries(found: Any) -> Iterator[str]:
    """Yield every query in a document."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name == "expr":
                yield value
            else:
                yield from _queries(value)
    elif isinstance(found, list):
        for item in found:
            yield from _queries(item)


def _asked_for(queries: Iterator[str]) -> set[str]:
    return {name for query in queries for name in re.findall(r"\b(?:reanimate_gateway_llm_|gen_ai_)\w+", query)} - {
        "gen_ai_request_model", "gen_ai_token_type",
    }  # fmt: skip


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def test_dashboard__asks_for_what_is_exported(dashboard: dict[str, Any]) -> None:
    """No panel stays empty because of a name; and nothing that is exported for people is left out."""
    exported, asked = _exported(), _asked_for(_queries(dashboard))
    assert asked - exported == set()
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in asked}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in exported} - shown == set()


def test_rules__ask_for_what_is_exported() -> None:
    """An alert on a name that does not exist would never fire."""
    assert _asked_for(_queries(yaml.safe_load(RULES.read_text()))) - _exported() == set()


def test_dashboard__panels_have_their_places(dashboard: dict[str, Any]) -> None:
    """Ids are unique, panels do not lie on each other, and each says what it shows."""
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
        assert panel["title"]
        if panel["type"] != "row":
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0


@pytest.mark.external
def test_dashboard__queries_are_such(
    dashboard: dict[str, Any], need_program: Callable[..., str], tmp_path: Path
) -> None:
    """Prometheus' own parser takes each one."""
    rules = []
    for number, query in enumerate(_queries(dashboard)):
        for name, value in STEP.items():
            query = query.replace(name, value)
        rules.append({"record": f"query_{number}", "expr": query})
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [need_program("promtool"), "check", "rules", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
