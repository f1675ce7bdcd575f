"""What the doctor says of the LLM plane's settings."""

from pathlib import Path
from typing import Any

import pytest

from reanimate.doctor.finding import Finding, Level
from reanimate.doctor.llm import llm_findings
from reanimate.llm_settings import LlmSettings

MODEL = {"name": "m", "max_output_tokens": 9000}


def provider(name: str, *models: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "name": name, "url": f"https://{name}.example/v1", "keys": ["sk-secret"], "models": models or (MODEL,), **fields
    }  # fmt: skip


def route(*targets: str, name: str = "chat") -> dict[str, Any]:
    return {"name": name, "targets": targets}


def findings(
    *providers: dict[str, Any], routes: Any = (), host: str = "127.0.0.1", file: Path = Path("/none"), **more: Any
) -> list[Finding]:
    settings = LlmSettings.model_validate({"providers": providers, "routes": routes, **more})
    return list(llm_findings(settings, host, file))


def test_llm__nothing_to_say_without_a_provider() -> None:
    assert findings() == []


def test_llm__a_sound_route_is_well() -> None:
    [found] = findings(provider("a"), provider("b"), routes=[route("a/m", "b/m")])
    assert (found.level, found.found) == (Level.OK, "2 targets, each can stand in")


@pytest.mark.parametrize(("mode", "level"), [(0o600, None), (0o604, Level.FAIL), (0o640, Level.WARN)])
def test_llm__keys_that_others_can_read(tmp_path: Path, mode: int, level: Level | None) -> None:
    file = tmp_path / "reanimate.toml"
    file.touch()
    file.chmod(mode)
    found = findings(provider("a"), provider("b"), routes=[route("a/m", "b/m")], file=file)
    assert [one.level for one in found if one.about == "LLM keys"] == ([level] if level else [])
    assert findings(provider("a", keys=[]), file=file)[0].about != "LLM keys"


def test_llm__a_gateway_that_anybody_can_reach() -> None:
    both, routes = (provider("a"), provider("b")), [route("a/m", "b/m")]
    assert "LLM callers" in [one.about for one in findings(*both, routes=routes, host="0.0.0.0")]
    tenants = [{"name": "t", "keys": ["k"]}]
    assert "LLM callers" not in [one.about for one in findings(*both, routes=routes, host="0.0.0.0", tenants=tenants)]


@pytest.mark.parametrize(
    ("fields", "level", "words"),
    [
        ({"url": "http://far.example/v1"}, Level.WARN, "in the clear"),
        ({"url": "http://127.0.0.1:1/v1"}, None, ""),
        ({"keys": []}, Level.WARN, "without a key"),
        ({"keys": [], "pass_key": True}, None, ""),
        ({"keys": [], "url": "http://[::1]:1/v1"}, None, ""),
        ({"keys": [], "headers": {"api-key": "x"}}, None, ""),
        ({"wire": "anthropic"}, Level.FAIL, "ends in /v1"),
        ({"wire": "anthropic", "url": "https://a.example"}, None, ""),
    ],
)
def test_llm__a_provider(fields: dict[str, Any], level: Level | None, words: str) -> None:
    found = [one for one in findings(provider("a", **fields)) if one.about == "LLM provider a"]
    assert [one.level for one in found] == ([level] if level else [])
    assert all(words in one.found for one in found)


def test_llm__no_route() -> None:
    assert [one.about for one in findings(provider("a"))] == ["LLM routes"]


WARN, FAIL, OK = Level.WARN, Level.FAIL, Level.OK
EMBED = {"name": "e", "kind": "embedding"}


@pytest.mark.parametrize(
    ("providers", "targets", "level", "words"),
    [
        ([provider("a")], ["a/m"], WARN, "only a"),
        ([provider("a", MODEL, {"name": "n"})], ["a/m", "a/n"], WARN, "only a"),
        ([provider("a"), provider("b", {**MODEL, "tools": False})], ["a/m", "b/m"], WARN, "calls with tools"),
        ([provider("a", {**MODEL, "vision": True}), provider("b")], ["a/m", "b/m"], WARN, "images"),
        ([provider("a"), provider("b", {**MODEL, "structured_output": False})], ["a/m", "b/m"], WARN, "structured"),
        ([provider("a"), provider("b", {**MODEL, "context_tokens": 8000})], ["a/m", "b/m"], WARN, "8,000"),
        ([provider("a"), provider("b", url="https://a.example/v1")], ["a/m", "b/m"], WARN, "at a.example"),
        ([provider("a"), provider("b", {"name": "c"}, wire="anthropic", url="https://b.example")], ["a/m", "b/c"],
         WARN, "b/c gets 4096 tokens"),
        ([provider("a"), provider("b", EMBED)], ["a/m", "b/e"], FAIL, "mixes chat and embedding"),
        ([provider("a", EMBED), provider("b", {**EMBED, "name": "f"})], ["a/e", "b/f"], WARN, "mean nothing"),
        ([provider("a", EMBED), provider("b", EMBED)], ["a/e", "b/e"], OK, "2 targets"),
        ([provider("a", {**MODEL, "tools": False}), provider("b", {**MODEL, "tools": False})], ["a/m", "b/m"],
         OK, "2 targets"),
    ],
)  # fmt: skip
def test_llm__a_route(providers: list[dict[str, Any]], targets: list[str], level: Level, words: str) -> None:
    """What is weaker in an outage is told before one."""
    [found] = findings(*providers, routes=[route(*targets)])
    assert found.about == "LLM route chat"
    assert (found.level, words in found.found) == (level, True), found
