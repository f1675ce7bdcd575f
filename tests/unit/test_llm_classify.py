"""What the errors of real providers mean: bodies as their documentation and their servers word them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from reanimate.gateway.llm.failover.classify import classify, classify_broken, classify_error, garbage
from reanimate.gateway.llm.failures import Help
from reanimate.gateway.llm.transport.errors import TransportFailed, TransportTrouble

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def _openai(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _anthropic(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}


def _vllm(message: str, kind: str, code: int) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


ERRORS: list[tuple[str, int, Any, str, Help]] = [
    # OpenAI
    ("openai rate", 429, _openai("Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit "
     "30000, Used 29500, Requested 1200. Please try again in 1.4s.", "tokens", "rate_limit_exceeded"),
     "rate_limited", Help.KEY),
    ("openai quota", 429, _openai("You exceeded your current quota, please check your plan and billing details.",
     "insufficient_quota", "insufficient_quota"), "quota", Help.KEY),
    ("openai billing", 429, _openai("Your account is not active, please check your billing details on our website.",
     "billing_not_active", "billing_not_active"), "quota", Help.KEY),
    ("openai key", 401, _openai("Incorrect API key provided: sk-***.", "invalid_request_error", "invalid_api_key"),
     "unauthorized", Help.KEY),
    ("openai country", 403, _openai("Country, region, or territory not supported", "request_forbidden",
     "unsupported_country_region_territory"), "forbidden", Help.KEY),
    ("openai model", 404, _openai("The model `gpt-9` does not exist or you do not have access to it.",
     "invalid_request_error", "model_not_found"), "not_found", Help.NEXT),
    ("openai long", 400, _openai("This model's maximum context length is 8192 tokens. However, your messages resulted "
     "in 9000 tokens. Please reduce the length of the messages.", "invalid_request_error", "context_length_exceeded",
     "messages"), "context_length", Help.LARGER),
    ("openai responses long", 400, _openai("Your input exceeds the context window of this model. Please adjust your "
     "input and try again.", "invalid_request_error", "context_length_exceeded", "input"),
     "context_length", Help.LARGER),
    ("openai policy", 400, _openai("Your request was rejected as a result of our safety system.",
     "invalid_request_error", "content_policy_violation"), "content_policy", Help.NONE),
    ("openai usage policy", 400, _openai("Invalid prompt: your prompt was flagged as potentially violating our usage "
     "policy. Please try again with a different prompt.", "invalid_request_error", "invalid_prompt"),
     "content_policy", Help.NONE),
    ("openai wrong", 400, _openai("Invalid value for 'temperature': expected a number between 0 and 2.",
     "invalid_request_error", None, "temperature"), "bad_request", Help.NONE),
    ("openai 500", 500, _openai("The server had an error while processing your request. Sorry about that!",
     "server_error"), "http_500", Help.RETRY),
    ("openai overloaded", 503, _openai("The engine is currently overloaded, please try again later.", "server_error"),
     "overloaded", Help.NEXT),
    ("openai slow down", 503, _openai("Slow down", "service_unavailable_error", "slow_down"), "overloaded", Help.NEXT),
    # Anthropic
    ("anthropic rate", 429, _anthropic("rate_limit_error", "This request would exceed your organization's rate limit "
     "of 40,000 input tokens per minute."), "rate_limited", Help.KEY),
    ("anthropic overloaded", 529, _anthropic("overloaded_error", "Overloaded"), "overloaded", Help.NEXT),
    ("anthropic credit", 400, _anthropic("invalid_request_error", "Your credit balance is too low to access the "
     "Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."), "quota", Help.KEY),
    ("anthropic limits", 400, _anthropic("invalid_request_error", "You have reached your specified API usage limits. "
     "You will regain access on 2026-12-01 at 00:00 UTC."), "quota", Help.KEY),
    ("anthropic long", 400, _anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
     "context_length", Help.LARGER),
    ("anthropic max_tokens", 400, _anthropic("invalid_request_error", "input length and `max_tokens` exceed context "
     "limit: 190000 + 20000 > 200000, decrease input length or `max_tokens` and try again"),
     "context_length", Help.LARGER),
    ("anthropic filter", 400, _anthropic("invalid_request_error", "Output blocked by content filtering policy"),
     "content_policy", Help.NONE),
    ("anthropic wrong", 400, _anthropic("invalid_request_error", "max_tokens: Field required"),
     "bad_request", Help.NONE),
    ("anthropic key", 401, _anthropic("authentication_error", "invalid x-api-key"), "unauthorized", Help.KEY),
    ("anthropic permission", 403, _anthropic("permission_error", "Your API key does not have permission to use the "
     "specified resource."), "forbidden", Help.KEY),
    ("anthropic model", 404, _anthropic("not_found_error", "model: claude-9"), "not_found", Help.NEXT),
    ("anthropic large", 413, _anthropic("request_too_large", "Request exceeds the maximum size"),
     "too_large", Help.NEXT),
    ("anthropic 500", 500, _anthropic("api_error", "Internal server error"), "http_500", Help.RETRY),
    ("anthropic billing", 402, _anthropic("billing_error", "There is an issue with your billing."), "quota", Help.KEY),
    # Azure
    ("azure rate", 429, {"error": {"code": "429", "message": "Requests to the ChatCompletions_Create Operation under "
     "Azure OpenAI API version 2024-10-21 have exceeded token rate limit of your current OpenAI S0 pricing tier. "
     "Please retry after 6 seconds."}}, "rate_limited", Help.KEY),
    ("azure filter", 400, {"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's "
     "content management policy.", "type": None, "param": "prompt", "code": "content_filter", "status": 400,
     "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "content_policy", Help.NONE),
    ("azure key", 401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key or wrong "
     "API endpoint."}}, "unauthorized", Help.KEY),
    ("azure deployment", 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this "
     "resource does not exist."}}, "not_found", Help.NEXT),
    # vLLM
    ("vllm long", 400, _vllm("This model's maximum context length is 2048 tokens. However, you requested 4096 tokens.",
     "BadRequestError", 400), "context_length", Help.LARGER),
    ("vllm longer", 400, _vllm("The decoder prompt (length 9000) is longer than the maximum model length of 2048. "
     "Make sure that `max_model_len` is no smaller than the number of text tokens.", "BadRequestError", 400),
     "context_length", Help.LARGER),
    ("vllm model", 404, _vllm("The model `x` does not exist.", "NotFoundError", 404), "not_found", Help.NEXT),
    ("vllm wrong", 400, _vllm("top_p must be in (0, 1], got 2.0.", "BadRequestError", 400), "bad_request", Help.NONE),
    # llama.cpp
    ("llama.cpp long", 400, {"error": {"code": 400, "message": "request (9000 tokens) exceeds the available context "
     "size (4096 tokens), try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 9000,
     "n_ctx": 4096}}, "context_length", Help.LARGER),
    ("llama.cpp loading", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
     "overloaded", Help.NEXT),
    # Ollama
    ("ollama model", 404, {"error": 'model "x" not found, try pulling it first'}, "not_found", Help.NEXT),
    ("ollama busy", 503, {"error": "server busy, please try again.  maximum pending requests exceeded"},
     "overloaded", Help.NEXT),
    # OpenRouter
    ("openrouter credits", 402, {"error": {"code": 402, "message": "Insufficient credits. Add more using "
     "https://openrouter.ai/credits"}}, "quota", Help.KEY),
    ("openrouter moderation", 403, {"error": {"code": 403, "message": "openai/gpt-4o requires moderation on OpenAI. "
     "Your input was flagged for \"violence\".", "metadata": {"reasons": ["violence"]}}}, "content_policy", Help.NONE),
    ("openrouter none", 503, {"error": {"code": 503, "message": "No available model provider that meets your routing "
     "requirements"}}, "overloaded", Help.NEXT),
    ("openrouter upstream", 502, {"error": {"code": 502, "message": "Provider returned error"}},
     "http_502", Help.RETRY),
    # Others
    ("google rate", 429, [{"error": {"code": 429, "message": "Resource has been exhausted (e.g. check quota).",
     "status": "RESOURCE_EXHAUSTED", "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo",
     "retryDelay": "27s"}]}}], "rate_limited", Help.KEY),
    ("mistral rate", 429, {"object": "error", "message": "Requests rate limit exceeded", "type": "rate_limited",
     "param": None, "code": "1300"}, "rate_limited", Help.KEY),
    ("groq large", 413, _openai("Request too large for model `llama-3.1-8b-instant` in organization `org` on tokens "
     "per minute (TPM): Limit 6000, Requested 7000.", "tokens", "rate_limit_exceeded"), "too_large", Help.NEXT),
    ("deepseek balance", 402, _openai("Insufficient Balance", "unknown_error", "invalid_request_error"),
     "quota", Help.KEY),
    # Proxies and what nobody planned
    ("bad gateway", 502, "<html><head><title>502 Bad Gateway</title></head></html>", "http_502", Help.RETRY),
    ("gateway timeout", 504, "", "http_504", Help.RETRY),
    ("plain 429", 429, "slow down", "rate_limited", Help.KEY),
    ("redirect", 302, "", "http_302", Help.NEXT),
    ("not implemented", 501, "", "http_501", Help.NEXT),
    ("unprocessable", 422, {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]},
     "bad_request", Help.NONE),
    ("cloudflare", 520, "error code: 520", "http_520", Help.RETRY),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "helps"), [case[1:] for case in ERRORS], ids=[c[0] for c in ERRORS])
def test_classify__knows_the_errors_of_the_usual_servers(status: int, body: Any, kind: str, helps: Help) -> None:
    """By status, type, code and words; what helps decides what happens next."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    failure = classify(status, (), raw, NOW)
    assert (failure.kind, failure.help) == (kind, helps)
    assert failure.status == status
    assert failure.detail.startswith(f"answered {status}")


@pytest.mark.parametrize("case", ERRORS, ids=[case[0] for case in ERRORS])
def test_classify__only_trouble_of_the_server_speaks_against_it(case: tuple[str, int, Any, str, Help]) -> None:
    """A refused key, a limit, a model that is not there or a caller's mistake opens no breaker."""
    _, status, body, kind, helps = case
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    counts = classify(status, (), raw, NOW).counts
    assert counts == (helps is Help.RETRY or kind == "overloaded" or kind in ("http_302", "http_501"))


def test_classify__the_providers_own_error_can_be_passed_on() -> None:
    """Its bytes are kept when they are an error document, not when they are a proxy's page."""
    body = json.dumps(_openai("no", "invalid_request_error")).encode()
    assert classify(400, (), body, NOW).body == body
    assert classify(502, (), b"<html>", NOW).body == b""
    assert classify(400, (), json.dumps(_openai("x" * 70_000, "invalid_request_error")).encode(), NOW).body == b""


def test_classify_error__errors_within_a_good_status_are_known_by_their_names() -> None:
    """The same table; where no code says otherwise the provider failed."""
    long = classify_error({"code": "context_length_exceeded", "message": "too long"}, NOW)
    assert long.help is Help.LARGER
    filtered = classify_error(
        {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}, NOW
    )
    assert filtered.status is None or filtered.status == 400
    overloaded = classify_error({"type": "overloaded_error", "message": "Overloaded"}, NOW)
    assert (overloaded.kind, overloaded.help) == ("overloaded", Help.NEXT)
    upstream = classify_error({"code": 502, "message": "Provider disconnected"}, NOW)
    assert (upstream.kind, upstream.help) == ("http_502", Help.RETRY)
    unknown = classify_error({"message": "something"}, NOW)
    assert (unknown.kind, unknown.help, unknown.counts) == ("error_event", Help.NEXT, True)
    own = classify_error({"type": "invalid_request_error", "message": "temperature: range: 0..1"}, NOW)
    assert (own.help, own.status) == (Help.NONE, 400)


@pytest.mark.parametrize(
    ("trouble", "helps"),
    [
        (TransportTrouble.REFUSED, Help.NEXT),
        (TransportTrouble.CONNECT_TIMEOUT, Help.NEXT),
        (TransportTrouble.TLS, Help.NEXT),
        (TransportTrouble.RESET, Help.RETRY),
        (TransportTrouble.CUT, Help.RETRY),
        (TransportTrouble.NOT_HTTP, Help.NEXT),
        (TransportTrouble.TOO_LARGE, Help.NEXT),
    ],
)
def test_classify_broken__a_lone_reset_may_be_over_at_once_and_nothing_else(
    trouble: TransportTrouble, helps: Help
) -> None:
    """Where nobody listens, asking again at once finds nobody."""
    assert classify_broken(TransportFailed(trouble, "x")).help is helps


def test_garbage__is_the_next_providers() -> None:
    """Who answers 200 with HTML does so again."""
    assert garbage("HTML").help is Help.NEXT
