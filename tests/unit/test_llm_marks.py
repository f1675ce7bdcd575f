"""The head of an answer: what of the provider's is passed on, and what the gateway says itself."""

from typing import cast

from reanimate.gateway.llm.call import Call, Tenant
from reanimate.gateway.llm.catalogue import Catalogue
from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.marks import marks
from reanimate.gateway.llm.prompt import read_prompt
from reanimate.gateway.request import Request
from reanimate.llm_settings import LlmSettings

SETTINGS = LlmSettings.model_validate(
    {
        "providers": [{"name": "main", "url": "http://main", "models": [{"name": "m"}]}],
        "routes": [{"name": "chat", "targets": ["main/m"]}],
    }
)


def a_call() -> Call:
    catalogue = Catalogue(SETTINGS)
    prompt = read_prompt(ENDPOINTS["/v1/chat/completions"], b'{"model":"chat","messages":[]}')
    request = cast(Request, None)
    return Call("llm-1", request, prompt, Tenant("t", "t"), catalogue.routes["chat"], catalogue, 0.0, 60.0)


def test_marks__whose_account_it_is_stays_with_the_gateway() -> None:
    """What helps the caller passes: types, request ids, rate limits. The account's owner and cookies do not."""
    passed = {b"content-type": b"application/json", b"x-request-id": b"r", b"x-ratelimit-remaining-tokens": b"5"}
    kept = {
        b"openai-organization": b"org",
        b"anthropic-organization-id": b"org",
        b"set-cookie": b"a=b",
        b"server": b"x",
    }
    head = dict(marks(a_call(), provider=[*passed.items(), *kept.items()]))
    assert passed.items() <= head.items()
    assert not kept.keys() & head.keys()
    assert (head[b"x-reanimate-call"], head[b"x-reanimate-attempts"]) == (b"llm-1", b"0")


def test_marks__reasons_of_a_bad_day_are_ascii_on_one_line() -> None:
    call = a_call()
    call.degraded += ["main/m: http_500", "Zürich"]
    assert dict(marks(call))[b"x-reanimate-degraded"] == b"main/m: http_500; Z?rich"
