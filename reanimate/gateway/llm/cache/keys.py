"""Which questions are the same one.

Everything in the body counts but what is named in `_OF_THE_CALLER`, so that a parameter that is new next year counts
too. Instead of the model's name the route counts: two names of one route ask the same models.
"""

from hashlib import sha256

import orjson

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.endpoints import Shape

__all__ = ["is_a_question", "key_of"]

_OF_THE_CALLER = frozenset(
    {
        "model",
        "stream",
        "stream_options",
        # Who asks and how it is billed, scheduled or filed; not what is asked.
        "user",
        "metadata",
        "safety_identifier",
        "store",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)
_HEADERS = frozenset({b"x-reanimate-knowledge-version", b"anthropic-version", b"anthropic-beta", b"openai-beta"})
"""The knowledge base may change without a word of the prompt changing; betas change what answers look like."""
_INEXACT = 2.0**63
"""Whole numbers from here on may have been read as floats."""


def key_of(call: Call) -> bytes:
    """Return the name under which an answer to this call is kept. It holds the tenant: none shares with another."""
    prompt = call.prompt
    said = [(name.decode(), value.decode("latin-1")) for name, value in call.request.headers if name in _HEADERS]
    if said:
        said.sort()
    # Of what the standard library has it is the quickest by far where the processor helps.
    digest = sha256(orjson.dumps([call.tenant.partition, call.route.name, prompt.endpoint.shape, said]))
    fields = {name: value for name, value in prompt.fields.items() if name not in _OF_THE_CALLER}
    digest.update(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))
    return digest.digest()[:20]


def is_a_question(call: Call) -> bool:
    """Say whether the request says it all: not with a conversation that the provider keeps and changes.

    Nor with a parameter, like a seed, of more than 64 bits: as it was read it is the same as its neighbours.
    """
    fields = call.prompt.fields
    if any(type(value) is float and abs(value) >= _INEXACT for value in fields.values()):
        return False
    if call.prompt.endpoint.shape is not Shape.RESPONSES:
        return True
    return not fields.get("conversation") and not fields.get("background")
