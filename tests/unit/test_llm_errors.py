"""Errors in the shape of each wire: the vendors' own clients raise what they stand for."""

from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import orjson
import pytest
from llm_calls import attempt_at, call_of, catalogue_of, target_of

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.failures import Failure, Help, Rejected
from reanimate.gateway.llm.wire.errors import error_answer, error_event, provider_error

HELLO: Any = [{"role": "user", "content": "Hello"}]
OPENAI_ERROR = {"error": {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "ctx"}}
ANTHROPIC_ERROR = {
    "type": "error",
    "error": {"type": "invalid_request_error", "message": "too long"},
    "request_id": "r",
}


def call_at(path: str, *failures: Failure) -> Call:
    call = call_of({"model": "chat", "stream": True}, path)
    target = target_of(catalogue_of())
    call.attempts = [attempt_at(target, failure) for failure in failures]
    return call


def answering(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Callable[[Any], Any]:
    return lambda request: httpx2.Response(status, headers=headers, content=body, request=request)


def openai_to(handler: Callable[[Any], Any], retries: int = 0) -> openai.OpenAI:
    http = httpx2.Client(transport=httpx2.MockTransport(handler))
    return openai.OpenAI(api_key="k", base_url="http://g/v1", http_client=http, max_retries=retries)


def anthropic_to(handler: Callable[[Any], Any], retries: int = 0) -> anthropic.Anthropic:
    http = httpx2.Client(transport=httpx2.MockTransport(handler))
    return anthropic.Anthropic(api_key="k", base_url="http://g", http_client=http, max_retries=retries)


ASK: dict[str, Callable[..., Any]] = {
    "/v1/chat/completions": lambda h, n=0: openai_to(h, n).chat.completions.create(model="chat", messages=HELLO),
    "/v1/responses": lambda h, n=0: openai_to(h, n).responses.create(model="chat", input="Hello"),
    "/v1/embeddings": lambda h, n=0: openai_to(h, n).embeddings.create(model="chat", input="Hello"),
    "/v1/messages": lambda h, n=0: anthropic_to(h, n).messages.create(model="chat", max_tokens=9, messages=HELLO),
    "/v1/messages/count_tokens": lambda h, n=0: anthropic_to(h, n).messages.count_tokens(model="chat", messages=HELLO),
}
RAISED = {
    400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
    429: "RateLimitError", 502: "InternalServerError", 503: "InternalServerError", 504: "InternalServerError",
}  # fmt: skip


@pytest.mark.parametrize("path", ASK)
@pytest.mark.parametrize("status", RAISED)
def test_answer__each_client_raises_its_class(path: str, status: int) -> None:
    call = call_at(path)
    vendor = openai if call.prompt.endpoint.wire == "openai" else anthropic
    handler = answering(*error_answer(call.prompt.endpoint, Rejected(status, "all_failed", "nobody answers"), call))
    with pytest.raises(getattr(vendor, RAISED[status]), match="nobody answers") as caught:
        ASK[path](handler)
    assert caught.value.status_code == status
    assert caught.value.request_id == "llm-1"


@pytest.mark.parametrize("path", ASK)
def test_answer__lists_every_attempt(path: str) -> None:
    """For the reader of a log, and for a program."""
    failures = Failure("http_500", Help.RETRY, "status 500: oh", 500), Failure("timeout", Help.NEXT, "silent for 2 s")
    call = call_at(path, *failures)
    _, _, body = error_answer(call.prompt.endpoint, Rejected(502, "all_failed", "nobody answers"), call)
    error = orjson.loads(body)["error"]
    assert error["message"] == (
        "nobody answers [1. main/large: http_500, status 500: oh; 2. main/large: timeout, silent for 2 s]"
    )
    assert error["reanimate"]["call"] == "llm-1"
    assert error["reanimate"]["kind"] == "all_failed"
    assert [item["kind"] for item in error["reanimate"]["attempts"]] == ["http_500", "timeout"]
    assert error["reanimate"]["attempts"][0] == {
        "target": "main/large", "purpose": "first", "status": 500, "kind": "http_500", "detail": "status 500: oh",
        "ms": 12,
    }  # fmt: skip
    assert b"sk-secret" not in body


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", OPENAI_ERROR), ("/v1/messages", ANTHROPIC_ERROR)])
def test_answer__the_only_providers_error_passes_byte_for_byte(path: str, body: dict[str, Any]) -> None:
    raw = orjson.dumps(body, option=orjson.OPT_INDENT_2)
    failure = Failure("bad_request", Help.NONE, "400", 400, raw)
    call = call_at(path, failure)
    status, _, told = error_answer(call.prompt.endpoint, Rejected(400, "bad_request", "…", passed=failure), call)
    assert (status, told) == (400, raw)


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", ANTHROPIC_ERROR), ("/v1/messages", OPENAI_ERROR)])
def test_answer__a_providers_error_crosses_to_the_callers_wire(path: str, body: dict[str, Any]) -> None:
    """With its own words."""
    failure = Failure("context_length", Help.LARGER, "400", 400, orjson.dumps(body))
    call = call_at(path, failure)
    handler = answering(*error_answer(call.prompt.endpoint, Rejected(400, "bad_request", "…", passed=failure), call))
    vendor = openai if call.prompt.endpoint.wire == "openai" else anthropic
    with pytest.raises(vendor.BadRequestError, match="too long") as caught:
        ASK[path](handler)
    if vendor is openai:
        assert caught.value.code == "context_length_exceeded"
    else:
        assert caught.value.body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b'{"error":{}}', b"{"])
def test_answer__what_is_no_error_document_is_not_passed(raw: bytes) -> None:
    failure = Failure("bad_request", Help.NONE, "400", 400, raw)
    call = call_at("/v1/chat/completions", failure)
    _, _, told = error_answer(call.prompt.endpoint, Rejected(400, "bad_request", "it said no", passed=failure), call)
    assert "it said no" in orjson.loads(told)["error"]["message"]


def test_answer__before_there_is_a_call() -> None:
    endpoint = call_at("/v1/messages").prompt.endpoint
    status, headers, body = error_answer(endpoint, Rejected(401, "unauthorized", "no key"))
    assert (status, orjson.loads(body)["error"]["message"]) == (401, "no key")
    assert dict(headers)[b"content-length"] == str(len(body)).encode()


def test_answer__says_when_to_come_back() -> None:
    """In both spellings that the clients read, never as 'at once'."""
    endpoint = call_at("/v1/chat/completions").prompt.endpoint
    headers = dict(error_answer(endpoint, Rejected(429, "rate_cut", "…", retry_after_s=1.2))[1])
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (b"2", b"1200")
    failure = Failure("rate_limited", Help.NEXT, "…", 429, retry_after_s=0.0)
    headers = dict(error_answer(endpoint, Rejected(429, "all_failed", "…", passed=failure))[1])
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (b"1", b"1")


@pytest.mark.parametrize("kind", ["quota_exhausted", "killed", "deadline"])
@pytest.mark.parametrize("path", ASK)
def test_answer__a_client_does_not_try_again_what_cannot_succeed(kind: str, path: str) -> None:
    """The vendors' clients would ask three times."""
    call, count = call_at(path), 0
    answer = answering(*error_answer(call.prompt.endpoint, Rejected(503, kind, "no"), call))

    def counting(request: Any) -> Any:
        nonlocal count
        count += 1
        return answer(request)

    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)):
        ASK[path](counting, 2)
    assert count == 1


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        ("/v1/chat/completions", lambda c: c.chat.completions.create(model="chat", messages=HELLO, stream=True)),
        ("/v1/responses", lambda c: c.responses.create(model="chat", input="Hello", stream=True)),
    ],
)
def test_event__openais_client_raises_in_the_middle_of_a_stream(path: str, stream: Any) -> None:
    call = call_at(path, Failure("cut", Help.NEXT, "cut after 3 tokens"))
    event = error_event(call.prompt.endpoint, Rejected(502, "broken_off", "the answer broke off"), call)
    client = openai_to(answering(200, [(b"content-type", b"text/event-stream")], b": hello\n\n" + event))
    with pytest.raises(openai.APIError, match=r"broke off \[1\. main/large: cut, cut after 3 tokens\]") as caught:
        list(stream(client))
    assert caught.value.code == "broken_off"
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["reanimate"]["call"] == "llm-1"


def test_event__anthropics_client_raises_in_the_middle_of_a_stream() -> None:
    call = call_at("/v1/messages", Failure("cut", Help.NEXT, "cut after 3 tokens"))
    event = error_event(call.prompt.endpoint, Rejected(502, "broken_off", "the answer broke off"), call)
    client = anthropic_to(answering(200, [(b"content-type", b"text/event-stream")], event))
    with pytest.raises(anthropic.APIStatusError, match="the answer broke off") as caught:
        list(client.messages.create(model="chat", max_tokens=9, messages=HELLO, stream=True))
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["reanimate"]["kind"] == "broken_off"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"m","code":5}}', "m"),
        (b'[{"error":{"message":"m"}}]', "m"),
        (b'{"error":"m"}', "m"),
        (b'{"object":"error","message":"m","type":"x"}', "m"),
        (b'{"detail":"m"}', "m"),
        (b'{"detail":[]}', None),
        (b"<html>", None),
        (b'{"error":{"message":null}}', None),
    ],
)
def test_provider_error__in_the_spellings_of_compatible_servers(body: bytes, message: str | None) -> None:
    found = provider_error(body)
    assert (found["message"] if found else None) == message
