"""The errors of real providers, as their documentation and their servers word them."""

from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["ERRORS", "KnownError", "error_body", "error_event"]


@dataclass(frozen=True, slots=True)
class KnownError:
    """One error on both wires: OpenAI's status, type and code, and Anthropic's status and type."""

    status: int
    type: str
    code: str | None
    message: str
    anthropic_status: int
    anthropic_type: str
    anthropic_message: str
    param: str | None = None


ERRORS = {
    "rate_limit": KnownError(
        429, "tokens", "rate_limit_exceeded",
        "Rate limit reached for this model on tokens per min (TPM): Limit 30000, Used 29500, Requested 1200. "
        "Please try again in 1.4s.",
        429, "rate_limit_error", "This request would exceed your organization's rate limit of 40,000 input tokens per "
        "minute.",
    ),
    "insufficient_quota": KnownError(
        429, "insufficient_quota", "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
        400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API. Please go to Plans "
        "& Billing to upgrade or purchase credits.",
    ),
    "invalid_key": KnownError(
        401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided: sk-***.",
        401, "authentication_error", "invalid x-api-key",
    ),
    "forbidden": KnownError(
        403, "invalid_request_error", "unsupported_country_region_territory", "Country, region, or territory not "
        "supported",
        403, "permission_error", "Your API key does not have permission to use the specified resource.",
    ),
    "context_length": KnownError(
        400, "invalid_request_error", "context_length_exceeded",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens. Please "
        "reduce the length of the messages.",
        400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", "messages",
    ),
    "content_policy": KnownError(
        400, "invalid_request_error", "content_policy_violation",
        "Your request was rejected as a result of our safety system.",
        400, "invalid_request_error", "Output blocked by content filtering policy",
    ),
    "bad_request": KnownError(
        400, "invalid_request_error", None, "Invalid value for 'temperature': expected a number between 0 and 2.",
        400, "invalid_request_error", "temperature: range: 0..1", "temperature",
    ),
    "model_not_found": KnownError(
        404, "invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it.",
        404, "not_found_error", "model: not found",
    ),
    "server_error": KnownError(
        500, "server_error", None, "The server had an error while processing your request. Sorry about that!",
        500, "api_error", "Internal server error",
    ),
    "overloaded": KnownError(
        503, "server_error", None, "The engine is currently overloaded, please try again later.",
        529, "overloaded_error", "Overloaded",
    ),
}  # fmt: skip


def _anthropic(error: KnownError, message: str) -> dict[str, Any]:
    return {
        "type": "error",
        "error": {"type": error.anthropic_type, "message": message or error.anthropic_message},
        "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy",
    }


def _openai(error: KnownError, message: str) -> dict[str, Any]:
    return {
        "error": {"message": message or error.message, "type": error.type, "param": error.param, "code": error.code}
    }


def error_body(name: str, anthropic: bool, message: str = "") -> tuple[int, bytes]:
    """Return status and body of a known error."""
    error = ERRORS[name]
    if anthropic:
        return error.anthropic_status, orjson.dumps(_anthropic(error, message))
    return error.status, orjson.dumps(_openai(error, message))


def error_event(name: str, wire: str) -> bytes:
    """Return the event that reports a known error in the middle of a stream."""
    error = ERRORS[name]
    if wire == "messages":
        return b"event: error\ndata: " + orjson.dumps(_anthropic(error, "")) + b"\n\n"
    if wire == "responses":
        body = {
            "type": "error", "code": error.code or error.type, "message": error.message, "param": None,
            "sequence_number": 99,
        }  # fmt: skip
        return b"event: error\ndata: " + orjson.dumps(body) + b"\n\n"
    return b"data: " + orjson.dumps(_openai(error, "")) + b"\n\n"
