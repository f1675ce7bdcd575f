"""Counting tokens where the one that could count them is not there."""

from collections.abc import Iterable

import orjson

from reanimate.gateway.llm.call import Call, Usage
from reanimate.gateway.llm.prompt import BYTES_PER_TOKEN, Needs

__all__ = ["estimated_count", "estimated_usage"]

_TOKENS_PER_PIECE = 4
"""Pieces that are longer on average are no tokens."""


def estimated_usage(needs: Needs, known: Usage | None, said: Iterable[str], pieces: int = 0) -> Usage:
    """Return what an answer used whose provider did not say it, or not all.

    Most providers stream token by token: then its `pieces` are counted, else its length is what there is to go by.

    An answer that was delivered is neither free nor the whole of what was reserved for it.
    """
    known = known or Usage()
    length = sum(len(text.encode()) for text in said)
    by_length = -(-length // BYTES_PER_TOKEN)
    output = max(known.output_tokens, pieces if by_length <= pieces * _TOKENS_PER_PIECE else by_length)
    return Usage(known.input_tokens or needs.input_tokens, output, known.cached_tokens, estimated=True)


def estimated_count(call: Call) -> bytes:
    """Return an answer of `/v1/messages/count_tokens` that is an estimate, and mark the call as such."""
    call.degraded.append("the count is an estimate")
    return orjson.dumps({"input_tokens": call.prompt.needs.input_tokens})
