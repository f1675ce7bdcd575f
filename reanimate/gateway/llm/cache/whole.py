"""What is kept of an answer that was sent."""

from typing import Any

import orjson

from reanimate.gateway.llm.cache.assembly import assemble
from reanimate.gateway.llm.cache.goodness import judge
from reanimate.gateway.llm.call import Call, Usage
from reanimate.gateway.llm.endpoints import Shape

__all__ = ["Whole", "whole_answer"]

Whole = tuple[bytes, bool]
"""The answer as a request that is not streamed gets it, and whether it asks the caller to run tools."""


def whole_answer(call: Call, body: bytes | None) -> Whole | None:
    """Return the answer in `body`, or in what the caller of a stream heard; None if it is not to be given again."""
    shape = call.prompt.endpoint.shape
    if body is None:
        answer = assemble(shape, b"".join(call.heard or ()))
        if answer is not None and shape is Shape.CHAT and not answer.get("usage"):
            answer["usage"] = _chat_usage(call.usage)  # the caller had not asked for it in its stream
    else:
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
    verdict = judge(shape, call.prompt.fields, answer)
    if not verdict.good:
        return None
    return body if body is not None else orjson.dumps(answer), verdict.tools


def _chat_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
