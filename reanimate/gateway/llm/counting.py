"""Counting tokens where the one that could count them is not there."""

import orjson

from reanimate.gateway.llm.call import Call

__all__ = ["estimated_count"]


def estimated_count(call: Call) -> bytes:
    """Return an answer of `/v1/messages/count_tokens` that is an estimate, and mark the call as such."""
    call.degraded.append("the count is an estimate")
    return orjson.dumps({"input_tokens": call.prompt.needs.input_tokens})
