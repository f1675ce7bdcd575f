"""What a real gateway tells of its LLM traffic: figures, metrics, look-ups, log lines, commands."""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings
from prometheus_client.parser import text_string_to_metric_families

from reanimate.demo.provider import Fault, Provider


@pytest.fixture
async def gateway(tmp_path: Path, providers: tuple[Provider, Provider]) -> AsyncIterator[LlmGateway]:
    main, backup = providers
    priced = {"name": "model", "input_price": 2.0, "output_price": 10.0}
    write_settings(
        tmp_path,
        provider_toml("main", main.url, models=[priced]),
        provider_toml("backup", backup.url, models=[priced]),
        route_toml("chat", ["main/model", "backup/model"], cache_ttl_s=60, hedge=False),
    )
    async with llm_gateway_for(tmp_path) as running:
        yield running


async def _control(gateway: LlmGateway, path: str, key: bool = True) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {gateway.key}"} if key else {}
    async with gateway.http.get(gateway.control + path, headers=headers) as answer:
        body = await answer.read()
        return answer.status, orjson.loads(body) if answer.content_type == "application/json" else body.decode()


async def _stream(gateway: LlmGateway, text: str) -> dict[str, str]:
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": text}]}
    async with gateway.http.post(f"{gateway.openai_url}/chat/completions", json=body) as answer:
        assert answer.status == 200
        assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        return {name.lower(): value for name, value in answer.headers.items()}


async def test_figures__of_a_day_with_a_fault(gateway: LlmGateway, providers: tuple[Provider, Provider]) -> None:
    """Good calls, a hit, a stream, a failure that another provider made good: all of it is counted once."""
    main, _ = providers
    for text in ("one", "one", "two"):
        await gateway.chat(text)
    await _stream(gateway, "three")
    main.fail(Fault("status", status=500))
    status, _, headers = await gateway.chat("four")
    assert status == 200
    _, figures = await _control(gateway, "/figures", key=False)
    llm = figures["llm"]
    assert llm["calls"] == {"asked": 5, "answered": 4, "degraded": 1}
    assert (llm["samples"], llm["failed"]) == (4, 0)
    assert llm["cache_results"] == {"miss": 4, "hit": 1}
    assert llm["targets"]["main/model"]["attempts"]["answered"] == 3
    assert llm["targets"]["main/model"]["failed"] >= 1
    assert llm["targets"]["backup/model"]["attempts"] == {"answered": 1}
    tokens = [target["tokens"] for target in llm["targets"].values()]
    assert sum(each.get("output", 0) for each in tokens) == 4 * 24
    assert llm["cost"] == pytest.approx(
        sum(each.get("input", 0) * 2e-6 + each.get("output", 0) * 10e-6 for each in tokens)
    )
    assert 0 < llm["p50_ms"] < 2_000
    assert llm["first_token_p99_ms"] > 0
    assert llm["cache"]["entries"] >= 3  # what another than the first choice said is kept aside, a moment later
    assert "backup/model" in headers["x-reanimate-target"]


async def test_metrics__are_what_prometheus_reads(gateway: LlmGateway, providers: tuple[Provider, Provider]) -> None:
    """Its own parser takes every line, names are not told twice, and the numbers are those of the calls."""
    providers[0].fail(Fault("status", status=503))
    await gateway.chat("one")
    await _stream(gateway, "two")
    _, text = await _control(gateway, "/metrics", key=False)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(families) == text.count("# TYPE")
    samples = {(sample.name, *sorted(sample.labels.values())): sample.value
               for family in families.values() for sample in family.samples}  # fmt: skip
    assert samples["reanimate_gateway_llm_calls_total", "chat", "degraded"] == 2
    assert samples["reanimate_gateway_llm_attempts_total", "answered", "backup/model"] == 2
    assert samples["reanimate_gateway_llm_unanswered_total", "chat"] == 0
    assert samples["gen_ai_server_request_duration_seconds_count", "chat", "chat", "reanimate"] == 2
    assert samples["gen_ai_server_time_to_first_token_seconds_count", "chat", "chat", "reanimate"] == 1
    output = ("gen_ai_client_token_usage_sum", "backup", "chat", "model", "openai", "output")
    assert samples[output] == 48


async def test_calls__are_found_by_their_id(gateway: LlmGateway, providers: tuple[Provider, Provider]) -> None:
    """With the control key only; the id is what the answer's header says."""
    providers[0].fail(Fault("status", status=500))
    _, _, headers = await gateway.chat("the secret question")
    path = f"/calls/{headers['x-reanimate-call']}"
    status, record = await _control(gateway, path)
    assert status == 200
    assert record["answered_by"] == "backup/model"
    outcomes = [attempt["outcome"] for attempt in record["attempts"]]
    assert outcomes[-1] == "answered"
    assert set(outcomes[:-1]) == {"http_500"}
    assert "secret question" not in str(record)
    assert (await _control(gateway, path, key=False))[0] == 401
    assert (await _control(gateway, "/calls", key=False))[0] == 401
    assert (await _control(gateway, "/calls/llm-nothing"))[0] == 404


async def test_calls__those_that_failed_are_listed_and_logged(
    gateway: LlmGateway, providers: tuple[Provider, Provider]
) -> None:
    """Newest first; the log has a line of JSON for each, without what was asked and without a key."""
    for provider in providers:
        provider.fail(Fault("status", status=500))
    status, _, headers = await gateway.chat("the secret question")
    assert status >= 500
    _, listed = await _control(gateway, "/calls?failed=5")
    assert [call["id"] for call in listed["calls"]] == [headers["x-reanimate-call"]]
    assert listed["calls"][0]["error"]["kind"] == "all_failed"
    lines = [orjson.loads(line) for line in gateway.log.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line["id"] == headers["x-reanimate-call"]]
    assert (line["level"], line["ending"], line["event"]) == ("error", "failed", "llm call")
    assert {attempt["key"] for attempt in line["attempts"]} == {"main#1", "backup#1"}
    assert "secret question" not in gateway.log
    assert "key-of-main" not in gateway.log


async def _reanimate(home: Path, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "reanimate.cli", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={
            "REANIMATE_HOME": str(home), "PATH": "/usr/bin:/bin", "HOME": str(home), "COLUMNS": "200",
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing",
        },
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_commands__top_and_call(
    gateway: LlmGateway, providers: tuple[Provider, Provider], tmp_path: Path
) -> None:
    """Also while the record is away, as on a bad night: the gateway of the settings is known all the same."""
    for provider in providers:
        provider.fail(Fault("status", status=500))
    _, _, headers = await gateway.chat("one")
    call_id = headers["x-reanimate-call"]
    shown, data, told, unknown = await asyncio.gather(
        _reanimate(tmp_path, "top", "--once", "--window", "60"),
        _reanimate(tmp_path, "top", "--json", "--window", "60"),
        _reanimate(tmp_path, "llm", "call", call_id),
        _reanimate(tmp_path, "llm", "call", "llm-nothing"),
    )
    assert shown[0] == 0, shown[1]
    for expected in ("main/model", "backup/model", "1 of 1 call unanswered", "failed lately", "http_500", call_id):
        assert expected in shown[1]
    (view,) = orjson.loads(data[1])
    assert (view["samples"], view["failed_calls"], view["level"]) == (1, 1, "normal")
    assert {target["target"] for target in view["targets"]} == {"main/model", "backup/model"}
    assert told[0] == 0, told[1]
    assert "all_failed" in told[1]
    assert "main/model" in told[1]
    assert unknown[0] == 1
    assert "no gateway knows the call llm-nothing" in unknown[1]
    assert "Traceback" not in unknown[1]


async def test_top__of_a_gateway_that_is_away(gateway: LlmGateway, tmp_path: Path) -> None:
    """It is said, not guessed."""
    await gateway.stop()
    code, said = await _reanimate(tmp_path, "top", "--once")
    assert code == 0
    assert "ConnectError" in said


async def test_figures__refused_for_its_content(gateway: LlmGateway) -> None:
    """An answer that is refused counts for its tenant as refused, whatever the wire, and with nothing in it too."""
    each = itertools.product(
        ("chat/completions", "messages", "responses"),
        (False, True),
        ("[[refuse]]", "[[filter]]", "[[text=No]] [[filter]]"),
    )
    for asked, (path, stream, wish) in enumerate(each, start=1):
        said = [{"role": "user", "content": wish}]
        about = {"input": said} if path == "responses" else {"messages": said, "max_tokens": 50}
        async with gateway.http.post(
            f"{gateway.openai_url}/{path}", json={"model": "chat", "stream": stream, **about}
        ) as answer:
            assert answer.status == 200, await answer.read()
            await answer.read()
        _, figures = await _control(gateway, "/figures", key=False)
        counted = [tenant["refused_content"] for tenant in figures["llm"]["tenants"].values()]
        assert counted == [asked], (path, stream, wish, figures["llm"]["targets"])
