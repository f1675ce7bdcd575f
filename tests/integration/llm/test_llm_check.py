"""`reanimate gateway check`: what it finds, what it advises, what it costs, and what it never shows."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from llm_gateway import provider_toml, route_toml, write_settings

from reanimate.demo.provider import Behaviour, Fault, Match, Provider

EMBEDDER = {"name": "embedder", "kind": "embedding"}


async def check(home: Path, *arguments: str, timeout: str = "3") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "reanimate.cli", "gateway", "check", "--timeout", timeout, *arguments),
        env={**os.environ, "REANIMATE_HOME": str(home)}, cwd=home,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def trials(home: Path, *arguments: str, code: int) -> dict[tuple[str, str | None, str], dict[str, Any]]:
    """Check, and return what came of each target, key and trial."""
    returned, output, errors = await check(home, "--json", *arguments)
    assert (returned, errors) == (code, ""), output + errors
    return {(trial["target"], trial["key"], trial["what"]): trial for trial in json.loads(output)}


async def test_check__tries_each_target_with_each_key(tmp_path: Path, providers: tuple[Provider, Provider]) -> None:
    """Whole, streamed and with a tool; a vector of what makes vectors; nothing is asked twice."""
    main, backup = providers
    write_settings(
        tmp_path,
        provider_toml("main", main.url, models=["large", EMBEDDER], keys=["sk-one", "sk-two"]),
        provider_toml("backup", backup.url, "anthropic", models=[{"name": "claude", "tools": False}]),
        route_toml(targets=["main/large", "backup/claude"]),
    )
    found = await trials(tmp_path, code=0)
    assert set(found) == {
        *(("main/large", key, what) for key in ("main#1", "main#2") for what in ("answer", "stream", "tools")),
        *(("main/embedder", key, "embedding") for key in ("main#1", "main#2")),
        *(("backup/claude", "backup#1", what) for what in ("answer", "stream")),
    }
    assert {trial["level"] for trial in found.values()} == {"ok"}
    assert all(trial["ms"] > 0 and trial["tokens"] > 0 for trial in found.values())
    assert found["main/large", "main#1", "stream"]["first_token_ms"] > 0
    assert found["backup/claude", "backup#1", "answer"]["model"] == "claude"
    assert (main.total, backup.total) == (8, 2)
    assert sorted(call.key for call in main.calls) == ["sk-one"] * 4 + ["sk-two"] * 4


async def test_check__never_shows_a_key(tmp_path: Path, providers: tuple[Provider, Provider]) -> None:
    """Nor the headers of the settings; neither to people nor to machines, also when a provider says it back."""
    main, backup = providers
    said = {
        "error": {"message": "sk-very-secret is no key", "type": "invalid_request_error", "code": "invalid_api_key"}
    }
    main.fail(Fault("status", status=401, body=json.dumps(said)))
    write_settings(
        tmp_path,
        provider_toml("main", main.url, keys=["sk-very-secret"]),
        provider_toml("backup", backup.url, keys=["sk-also-secret"], headers={"x-extra": "hidden-too"}),
        route_toml(targets=["main/model", "backup/model"]),
    )
    for arguments in ((), ("--json",)):
        code, output, errors = await check(tmp_path, *arguments)
        assert code == 1
        for secret in ("very-secret", "also-secret", "hidden-too"):
            assert secret not in output + errors
        assert "[key] is no key" in " ".join(output.split())
    assert backup.calls[0].headers["x-extra"] == "hidden-too"


@pytest.mark.parametrize(
    ("fault", "kind", "advice"),
    [
        (Fault("status", error="invalid_key"), "unauthorized", "put a good key in place of main#1"),
        (Fault("status", error="insufficient_quota"), "quota", "add another key"),
        (Fault("status", error="model_not_found"), "not_found", "'model' the model's name there"),
        (Fault("status", error="rate_limit"), "rate_limited", "wait"),
        (Fault("garbage", garbage="html"), "garbage", "ends in /v1"),
        (Fault("hang"), "timeout", "status page"),
        (Fault("refuse"), "refused", "see that it runs"),
    ],
)
async def test_check__says_what_to_do(tmp_path: Path, provider: Provider, fault: Fault, kind: str, advice: str) -> None:
    """After one request: the other two would meet the same."""
    provider.fail(fault)
    write_settings(tmp_path, provider_toml("main", provider.url), route_toml(targets=["main/model"]))
    code, output, _ = await check(tmp_path, "--json", timeout="0.5")
    assert code == 1
    [trial] = json.loads(output)
    assert trial["level"] == "fail"
    assert trial["found"].startswith(f"{kind}: ")
    assert advice in trial["to_do"]
    assert provider.total == (0 if fault.kind == "refuse" else 1)


async def test_check__what_works_only_in_part(tmp_path: Path, provider: Provider) -> None:
    """A stream that breaks, and a model without tools that the settings promise."""
    provider.fail(Fault("cut", after=1, match=Match(stream=True)), Fault("status", error="bad_request", skip=2))
    write_settings(tmp_path, provider_toml("main", provider.url), route_toml(targets=["main/model"]))
    found = await trials(tmp_path, code=1)
    assert {what: trial["level"] for (_, _, what), trial in found.items()} == {
        "answer": "ok", "stream": "fail", "tools": "fail",
    }  # fmt: skip
    assert "tools = false" in found["main/model", "main#1", "tools"]["to_do"]


async def test_check__one_of_two_keys(tmp_path: Path, provider: Provider) -> None:
    provider.behaviour = Behaviour(keys=("good",))
    write_settings(
        tmp_path, provider_toml("main", provider.url, keys=["good", "bad"]), route_toml(targets=["main/model"])
    )
    found = await trials(tmp_path, code=1)
    assert found["main/model", "main#1", "answer"]["level"] == "ok"
    assert found["main/model", "main#2", "answer"]["to_do"].startswith("put a good key in place of main#2")


async def test_check__callers_bring_their_own_keys(tmp_path: Path, provider: Provider) -> None:
    """That none is known here is no failure."""
    provider.behaviour = Behaviour(keys=("callers",))
    write_settings(
        tmp_path, provider_toml("main", provider.url, keys=[], pass_key=True), route_toml(targets=["main/model"])
    )
    found = await trials(tmp_path, code=0)
    assert [trial["level"] for trial in found.values()] == ["warn"]


async def test_check__only_what_is_named(tmp_path: Path, providers: tuple[Provider, Provider]) -> None:
    """A route with all who may answer, a provider, or one model of it."""
    main, backup = providers
    write_settings(
        tmp_path,
        provider_toml("main", main.url, models=["a", "b"]),
        provider_toml("backup", backup.url, models=["c", "d"]),
        route_toml(targets=["main/a"], cheaper=["backup/c"]),
    )
    for name, targets in (
        ("chat", {"main/a", "backup/c"}),
        ("backup", {"backup/c", "backup/d"}),
        ("main/b", {"main/b"}),
    ):
        assert {target for target, _, _ in await trials(tmp_path, name, code=0)} == targets
    code, output, errors = await check(tmp_path, "other")
    assert (code, output) == (1, "")
    assert "'other'; there are chat, main/a, main/b, backup/c, backup/d" in errors


async def test_check__for_people(tmp_path: Path, provider: Provider) -> None:
    write_settings(
        tmp_path,
        provider_toml("main", provider.url, models=[{"name": "model", "input_price": 2.0}]),
        route_toml(targets=["main/model"]),
    )
    code, output, errors = await check(tmp_path)
    assert code == 0
    assert all(word in output for word in ("main/model", "main#1", "answer", "stream", "tools", "called the tool"))
    assert "nothing fails (3 tried)" in errors
    assert "USD" in errors


async def test_check__without_a_provider(tmp_path: Path) -> None:
    write_settings(tmp_path)
    code, _, errors = await check(tmp_path)
    assert code == 1
    assert "[[llm.providers]]" in errors


async def test_gateway__alone_still_runs_it(tmp_path: Path) -> None:
    """And says why when it cannot."""
    (tmp_path / "reanimate.toml").write_text("[gateway]\nport = 'x'\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "reanimate.cli", "gateway"),
        env={**os.environ, "REANIMATE_HOME": str(tmp_path)}, cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"gateway.port" in errors
