"""What is kept, written, exported and traced of a call that has ended."""

import asyncio
import io
from typing import Any

import orjson
import pytest
from llm_answers_by_hand import route_of
from llm_calls import KEY, call_of
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client.parser import text_string_to_metric_families

from reanimate.gateway.exposition import text
from reanimate.gateway.llm.accounts.genai import GenAi
from reanimate.gateway.llm.accounts.journal import Journal
from reanimate.gateway.llm.accounts.lookups import Lookups
from reanimate.gateway.llm.accounts.observer import Observer
from reanimate.gateway.llm.accounts.record import brief_of, record_of
from reanimate.gateway.llm.accounts.tracing import Tracing, open_tracing
from reanimate.gateway.llm.call import Attempt, Call, Ending, Usage
from reanimate.gateway.llm.failures import Failure, Help, Rejected
from reanimate.llm_settings import LlmSettings

SECRET = "the patient's name"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DOWN = Failure("http_500", Help.RETRY, "main answered 500", 500)


def _call(ending: Ending = Ending.DEGRADED, **headers: str) -> Call:
    """Return a streamed call that failed over from main to spare."""
    catalogue = route_of()
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": SECRET}]}
    call = call_of(body, catalogue=catalogue, headers=headers)
    call.began, call.ending, call.usage = 10.0, ending, Usage(100, 21)
    main, spare = catalogue.targets["main/large"], catalogue.targets["spare/small"]
    call.attempts += [
        Attempt(main, KEY, 10.0, ended=10.2, failure=DOWN, status=500),
        Attempt(spare, KEY, 10.2, "next", 10.25, 10.3, 11.3, 200, served=True, usage=Usage(100, 21)),
    ]
    call.degraded.append("answered by spare/small")
    return call


def test_record__tells_the_whole_story_and_no_secret() -> None:
    """Every attempt with its times and its end, who answered; neither a prompt nor a key."""
    record = record_of(_call(), 11.3, 1_000.0)
    assert (record["answered_by"], record["took_ms"], record["began"]) == ("spare/small", 1_300, pytest.approx(998.7))
    first, second = record["attempts"]
    assert (first["outcome"], first["detail"], first["ended_ms"]) == ("http_500", "main answered 500", 200)
    assert (second["outcome"], second["purpose"], second["first_token_ms"]) == ("answered", "next", 300)
    assert second["usage"] == {"input": 100, "output": 21, "cached": 0}
    told = orjson.dumps(record)
    assert SECRET.encode() not in told
    assert KEY.value.encode() not in told


def test_lookups__keep_the_last_ones() -> None:
    """Ten thousand, and not more bytes than allowed."""
    lookups = Lookups()
    record = record_of(_call(), 11.3, 1_000.0)
    for number in range(10_100):
        lookups.add({**record, "id": f"llm-{number}"}, failed=number % 100 == 0)
    assert len(lookups) == 10_000
    assert lookups.get("llm-99") is None
    assert orjson.loads(lookups.get("llm-10099") or b"")["route"] == "chat"
    assert [found["id"] for found in lookups.failed(2)] == ["llm-10000", "llm-9900"]
    lookups.add({**record, "id": "long", "degraded": ["x" * 7_000_000]}, failed=False)
    assert len(lookups) < 5_000
    assert lookups.get("long")


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_journal__bad_ends_are_written_without_bodies() -> None:
    """A line of JSON each, at most so many a second, and it is told how many were left out."""
    stream, now = io.StringIO(), [1_000.0]
    journal = Journal(lambda: now[0], False, stream)
    call = _call()
    record = record_of(call, 11.3, 1_000.0)
    for second in range(2):
        now[0] += second
        for _ in range(50):
            if journal.wants(call):
                journal.write(call, record)
    lines = _lines(stream)
    assert len(lines) == 40
    assert lines[20]["left_out"] == 30
    assert lines[0] | {"level": "warning", "event": "llm call", "id": "llm-1", "ending": "degraded"} == lines[0]
    assert SECRET not in stream.getvalue()


def test_journal__bodies_where_they_are_wanted() -> None:
    stream = io.StringIO()
    journal = Journal(lambda: 1.0, True, stream)
    call = _call(Ending.FAILED)
    call.heard = [b"data: half an ", b"answer"]
    journal.write(call, record_of(call, 11.3, 1_000.0))
    (line,) = _lines(stream)
    assert SECRET in line["prompt"]
    assert line["answer"] == "data: half an answer"
    assert KEY.value not in stream.getvalue()


def test_journal__good_ends_are_sampled() -> None:
    now = [0.0]
    journal = Journal(lambda: now[0], False, io.StringIO())
    wanted = 0
    for number in range(10_000):
        now[0] = number / 10
        wanted += journal.wants(_GOOD)
    assert 30 < wanted < 300


def test_journal__what_the_second_choice_answers_at_once_is_told_twice_a_second() -> None:
    """In an outage that is every call; a call that was tried in vain before is told as any that ends badly."""
    stream, now = io.StringIO(), [1_000.0]
    journal = Journal(lambda: now[0], False, stream)
    call = _call_of_one_attempt()
    call.ending, call.degraded = Ending.DEGRADED, ["main/large: timeout"]
    assert [journal.wants(call) for _ in range(10)] == [True] * 2 + [False] * 8
    assert all(journal.wants(_call()) for _ in range(20))
    now[0] += 1
    assert journal.wants(call)
    journal.write(call, record_of(call, 11.3, 1_000.0))
    assert _lines(stream)[0]["left_out"] == 8


_GOOD = _call(Ending.ANSWERED)


def test_genai__names_and_numbers() -> None:
    """Names, labels and bounds as the semantic conventions have them; what Prometheus' own parser reads."""
    genai = GenAi()
    genai.ended(_call(), 11.3)
    failed = _call(Ending.FAILED)
    failed.error = Rejected(502, "all_failed", "no")
    genai.ended(failed, 11.3)
    families = {family.name: family for family in text_string_to_metric_families(text(genai.families()))}
    assert set(families) == {
        "gen_ai_client_operation_duration_seconds",
        "gen_ai_client_operation_time_to_first_chunk_seconds",
        "gen_ai_client_token_usage",
        "gen_ai_server_request_duration_seconds",
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_server_time_per_output_token_seconds",
    }
    samples = {
        (sample.name.removeprefix("gen_ai_"), *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    spare = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "provider": "spare",
             "gen_ai_request_model": "small"}  # fmt: skip
    ours = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "reanimate", "gen_ai_request_model": "chat"}

    def value(name: str, labels: dict[str, str]) -> float:
        return samples[name, *sorted(labels.items())]

    assert value("client_operation_duration_seconds_sum", spare) == pytest.approx(2 * 1.1)
    assert value("client_operation_duration_seconds_bucket", spare | {"le": "0.64"}) == 0
    assert value("client_operation_duration_seconds_bucket", spare | {"le": "1.28"}) == 2
    assert value("client_operation_duration_seconds_bucket", spare | {"le": "+Inf"}) == 2
    assert value("client_token_usage_sum", spare | {"gen_ai_token_type": "output"}) == 42
    assert value("server_request_duration_seconds_count", ours) == 1
    assert value("server_request_duration_seconds_count", ours | {"error_type": "all_failed"}) == 1
    assert value("server_time_to_first_token_seconds_sum", ours) == pytest.approx(0.3)
    assert value("server_time_per_output_token_seconds_sum", ours) == pytest.approx(0.05)


async def _exported(exporter: SpanExporter, *calls: Call) -> None:
    tracing = Tracing(exporter)
    for call in calls:
        tracing.add(call, record_of(call, 11.3, 1_000.0))
    task = asyncio.ensure_future(tracing.export())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_tracing__a_span_for_the_call_and_one_for_each_attempt() -> None:
    """In the caller's own trace, with the times at which things happened."""
    exporter = InMemorySpanExporter()
    await _exported(exporter, _call(traceparent=PARENT))
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"chat large", "chat small", "chat chat"}
    call, failed, answered = spans["chat chat"], spans["chat large"], spans["chat small"]
    assert format(call.context.trace_id, "032x") == PARENT.split("-")[1]
    assert call.parent
    assert format(call.parent.span_id, "016x") == PARENT.split("-")[2]
    assert {failed.parent.span_id if failed.parent else 0} == {call.context.span_id}
    assert (call.kind, failed.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    assert failed.attributes
    assert (failed.attributes["error.type"], failed.attributes["http.response.status_code"]) == ("http_500", 500)
    assert failed.attributes["server.address"] == "main"
    assert answered.attributes
    assert answered.attributes["gen_ai.usage.output_tokens"] == 21
    assert (answered.start_time, answered.end_time) == (998_900_000_000, 1_000_000_000_000)
    assert [event.name for event in answered.events] == ["first token"]


async def test_tracing__sends_what_a_collector_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP, as the environment says; a collector that is away costs nothing but spans."""
    got: list[tuple[str, bytes]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        got.append((head.split()[1].decode(), await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for answers in (True, False):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        tracing = open_tracing()
        assert tracing is not None
        tracing.add(_call(), record_of(_call(), 11.3, 1_000.0))
        task = asyncio.ensure_future(tracing.export())
        await asyncio.sleep(1.5 if answers else 1.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()
    ((path, body),) = got
    assert path == "/v1/traces"
    assert b"gen_ai.request.model" in body
    assert b"reanimate-gateway" in body


def test_tracing__only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert open_tracing() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert open_tracing() is None


async def test_observer__takes_microseconds() -> None:
    """The account of a call with two attempts; the goal is 10 us on a quiet machine, this bound is for busy ones."""
    observer = Observer(LlmSettings())
    call = _call(Ending.ANSWERED)
    loop = asyncio.get_running_loop()
    best = min(_timed(observer, call, loop.time) for _ in range(20))
    assert best < 100e-6
    assert observer.lookups.get(call.id)
    assert observer.figures.window(5).calls == 2_000


def _timed(observer: Observer, call: Call, time: Any) -> float:
    began = time()
    for _ in range(100):
        observer.ended(call)
    assert observer.figures
    return float(time() - began) / 100


async def test_observer__writes_nothing_before_the_answer_has_left(capsys: pytest.CaptureFixture[str]) -> None:
    """A line in the log takes longer than a call: neither its caller nor others are to wait for it."""
    observer = Observer(LlmSettings())
    observer.ended(_call(Ending.DEGRADED))
    observer.ended(_call(Ending.FAILED))
    assert capsys.readouterr().err == ""
    assert observer.figures.window(5).calls == 2
    told = [orjson.loads(line)["ending"] for line in capsys.readouterr().err.splitlines()]
    assert told == ["degraded", "failed"]


async def test_observer__what_ends_last_is_told_when_the_process_ends(capsys: pytest.CaptureFixture[str]) -> None:
    observer = Observer(LlmSettings())
    beside = [asyncio.create_task(work) for work in observer.background()]
    await asyncio.sleep(0)
    observer.ended(_call(Ending.FAILED))
    assert capsys.readouterr().err == ""
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert orjson.loads(line)["ending"] == "failed"


def _call_of_one_attempt() -> Call:
    call = _call()
    call.ending, call.error, call.degraded = Ending.ANSWERED, None, []
    call.attempts = [attempt for attempt in call.attempts if attempt.served][:1]
    call.attempts[0].failure = None
    return call


@pytest.mark.parametrize("degraded", [[], ["main/large: timeout"]])
def test_brief__has_the_same_record(degraded: list[str]) -> None:
    """On a good day, and in an outage, when all calls are answered by the second choice at once."""
    call = _call_of_one_attempt()
    call.degraded, call.ending = degraded, Ending.DEGRADED if degraded else Ending.ANSWERED
    brief = brief_of(call, 11.3, 1_000.0)
    assert brief is not None
    assert brief.record() == record_of(call, 11.3, 1_000.0)
    assert brief.record()["degraded"] == degraded
    lookups = Lookups()
    lookups.add_brief(brief)
    assert orjson.loads(lookups.get(call.id) or b"") == orjson.loads(orjson.dumps(record_of(call, 11.3, 1_000.0)))


@pytest.mark.parametrize("change", ["error", "ending", "failure", "attempts"])
def test_brief__only_of_what_went_well(change: str) -> None:
    call = _call_of_one_attempt()
    match change:
        case "error":
            call.ending, call.error = Ending.DEGRADED, Rejected(503, "held", "nobody is asked")
        case "ending":
            call.ending = Ending.FAILED
        case "failure":
            call.attempts[0].failure = Failure("cut", Help.RETRY, "broke off")
        case "attempts":
            call.attempts = call.attempts * 2
    assert brief_of(call, 11.3, 1_000.0) is None
