"""What goes out to a provider of the caller's own wire: the caller's bytes, but for what must change."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_calls import KEY, call_of, catalogue_of, target_of

from reanimate.gateway.llm.wire.outgoing import Outgoing, asks_for_usage, outgoing
from reanimate.gateway.llm.wire.splice import model_span, splice

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}


def sent(body: Any, wire: str = "openai", key: Any = KEY, **given: Any) -> Outgoing:
    provider = given.pop("provider", {})
    catalogue = catalogue_of(wire, **provider)
    out = outgoing(call_of(body, given.pop("path", PATHS[wire]), catalogue, **given), target_of(catalogue), key)
    assert isinstance(out, Outgoing)
    return out


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"model":"chat","a": 1.0}', b'{"model":"large","a": 1.0}'),
        (b'{ "messages" : [{"model":"x"}],\n "model" :\t"chat" , "b":1e5}',
         b'{ "messages" : [{"model":"x"}],\n "model" :\t"large" , "b":1e5}'),
        (b'{"a":"\\"model\\": \\"chat\\"","model":"chat"}', b'{"a":"\\"model\\": \\"chat\\"","model":"large"}'),
        (b'{"a":"x\\"model","model":"chat"}', b'{"a":"x\\"model","model":"large"}'),
        (b'{"metadata":{"model":"chat"},"mod\\u0065l":"chat"}', b'{"metadata":{"model":"chat"},"mod\\u0065l":"large"}'),
        (b'{"model":"other","model":"chat"}', b'{"model":"large","model":"large"}'),
        (b'{"name":"model","model":"chat"}', b'{"name":"model","model":"large"}'),
        (b'{"a":[1,{"b":"}"}],"model":"ch\\"at","c":[]}', b'{"a":[1,{"b":"}"}],"model":"large","c":[]}'),
    ],
)  # fmt: skip
def test_model__only_its_name_changes(raw: bytes, expected: bytes) -> None:
    """Not a space, not a number's spelling, not a key within another value."""
    assert sent(raw).body == expected


def test_model__the_same_name_leaves_every_byte() -> None:
    raw = b'{ "model" : "large", "unknown": {"x": [1.10, "\xc3\xa9"]} }'
    assert sent(raw).body is raw or sent(raw).body == raw


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8) | st.just("model"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just("model"), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(max_size=5), json_values, max_size=5),
    json_values.filter(lambda value: value is not None),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_splice__sets_what_it_should_and_nothing_else(
    fields: dict[str, Any], old: Any, escaped: bool, indent: int | None
) -> None:
    """For any document, however it is written."""
    document = {**fields, "model": old}
    raw = json.dumps(document, ensure_ascii=escaped, indent=indent).encode("utf-8", "surrogatepass")
    spliced = json.loads(splice(raw, {"model": b'"new"', "extra\n": b"[1]"}))
    assert spliced == {**document, "model": "new", "extra\n": [1]}


@given(
    st.dictionaries(st.text(max_size=5), json_values, max_size=4),
    st.text(max_size=6),
    st.dictionaries(st.text(max_size=5) | st.just('a"model'), json_values, max_size=4),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_model__wherever_it_stands(
    before: dict[str, Any], name: str, after: dict[str, Any], escaped: bool, indent: int | None
) -> None:
    """Where it is found quickly, it is the right one; it is found where nothing else is called so."""
    document = {**before, "model": name}
    document |= {key: value for key, value in after.items() if key not in document}
    document["model"] = name
    raw = json.dumps(document, ensure_ascii=escaped, indent=indent).encode("utf-8", "surrogatepass")
    span = model_span(raw, document)
    if span is None:
        assert raw.count(b'"model"') > 1 or b'\\"model"' in raw
    else:
        assert json.loads(raw[: span[0]] + b'"new"' + raw[span[1] :]) == {**document, "model": "new"}
        assert json.loads(raw[slice(*span)]) == name


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"chat","messages":[],"model":"chat"}',
        b'{"messages":[],"model":"other","model":"chat"}',
        b'{"model":"chat","messages":[],"mod\\u0065l":"chat"}',
        b'{"messages":[],"mod\\u0065l":"chat","model":"chat"}',
    ],
)
def test_model__said_twice_is_replaced_twice(raw: bytes) -> None:
    """Servers differ in which they take: a caller must not choose a model that the route does not have."""
    got = sent(raw).body
    assert b"chat" not in got
    assert b"other" not in got
    assert json.loads(got)["model"] == "large"


def test_splice__into_nothing() -> None:
    assert splice(b" { } ", {"a": b"1", "b": b"2"}) == b' {"a":1,"b":2} '


def test_usage__is_asked_for_in_a_chat_stream() -> None:
    """And what the caller said of the stream stays."""
    assert sent(b'{"model":"large","stream":true }').body == (
        b'{"model":"large","stream":true ,"stream_options":{"include_usage":true}}'
    )
    options = b'{"model":"large","stream":true,"stream_options":{"include_obfuscation":false},"n":1}'
    assert sent(options).body == (
        b'{"model":"large","stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true},"n":1}'
    )
    assert sent(b'{"model":"large","stream":true,"stream_options":null}').body == (
        b'{"model":"large","stream":true,"stream_options":{"include_usage":true}}'
    )


@pytest.mark.parametrize(
    ("raw", "path", "provider"),
    [
        (b'{"model":"large","stream":true,"stream_options":{"include_usage":true}}', "/v1/chat/completions", {}),
        (b'{"model":"large","stream":false}', "/v1/chat/completions", {}),
        (b'{"model":"large","stream":true}', "/v1/responses", {}),
        (b'{"model":"large","stream":true}', "/v1/chat/completions", {"usage_in_streams": False}),
    ],
)
def test_usage__is_not_asked_for_where_it_comes_anyway_or_cannot(
    raw: bytes, path: str, provider: dict[str, Any]
) -> None:
    assert sent(raw, path=path, provider=provider).body == raw


def test_usage__the_caller_may_have_asked_for_it() -> None:
    assert asks_for_usage(call_of({"model": "m", "stream": True, "stream_options": {"include_usage": True}}).prompt)
    assert not asks_for_usage(call_of({"model": "m", "stream": True, "stream_options": None}).prompt)


CALLERS = {
    "Authorization": "Bearer callers", "X-Api-Key": "callers", "Cookie": "c", "Host": "gateway", "Content-Length": "9",
    "Content-Type": "text/plain", "OpenAI-Organization": "org", "OpenAI-Beta": "assistants=v2", "User-Agent": "agent/1",
    "Idempotency-Key": "i", "Anthropic-Beta": "b", "Traceparent": "00-1", "X-Reanimate-Tenant": "t",
    "Accept-Encoding": "gzip",
}  # fmt: skip


def test_headers__the_gateways_key_and_what_belongs_to_the_question() -> None:
    """The caller's own credentials, cookies and account end here."""
    headers = dict(sent({"model": "large"}, headers=CALLERS).headers)
    assert headers == {
        b"content-type": b"application/json", b"authorization": b"Bearer sk-secret", b"openai-beta": b"assistants=v2",
        b"user-agent": b"agent/1", b"idempotency-key": b"i", b"anthropic-beta": b"b", b"traceparent": b"00-1",
    }  # fmt: skip


def test_headers__of_anthropic() -> None:
    """Its version is what the caller says, else the one that all servers know."""
    plain = dict(sent({"model": "large"}, "anthropic").headers)
    assert plain[b"x-api-key"] == b"sk-secret"
    assert plain[b"anthropic-version"] == b"2023-06-01"
    assert b"authorization" not in plain
    versioned = sent({"model": "large"}, "anthropic", headers={"anthropic-version": "2029-01-01"}).headers
    assert [value for name, value in versioned if name == b"anthropic-version"] == [b"2029-01-01"]


def test_headers__of_the_provider_win() -> None:
    provider = {"headers": {"User-Agent": "ours", "api-key": "azure"}}
    headers = sent({"model": "large"}, key=None, headers=CALLERS, provider=provider).headers
    assert (b"user-agent", b"ours") in headers
    assert (b"api-key", b"azure") in headers
    assert len({name for name, _ in headers}) == len(headers)


def test_headers__the_callers_key_passes_only_where_the_settings_say_so() -> None:
    """To a provider without a key of its own; with the account that it belongs to."""
    passing = {"pass_key": True}
    headers = dict(sent({"model": "large"}, key=None, headers=CALLERS, provider=passing).headers)
    assert headers[b"authorization"] == b"Bearer callers"
    assert headers[b"openai-organization"] == b"org"
    assert b"authorization" not in dict(sent({"model": "large"}, key=None, headers=CALLERS).headers)
    assert (
        dict(sent({"model": "large"}, headers=CALLERS, provider=passing).headers)[b"authorization"] != b"Bearer callers"
    )


def test_headers__a_key_of_the_gateways_tenants_is_never_passed() -> None:
    """It opens the gateway, and is nobody else's business."""
    provider = {"pass_key": True, "tenants": [{"name": "t", "keys": ["callers"]}]}
    headers = dict(sent({"model": "large"}, key=None, headers=CALLERS, provider=provider).headers)
    assert not headers.keys() & {b"authorization", b"x-api-key"}


def test_path__keeps_the_query() -> None:
    """The vendors' clients ask for betas there."""
    out = sent({"model": "large"}, "anthropic", query="beta=true")
    assert out.path == b"/v1/messages?beta=true"
    assert sent({"model": "large", "input": "a"}, path="/v1/embeddings").path == b"/embeddings"


@pytest.mark.parametrize(
    ("query", "passed"),
    [
        ("key=sk-own", ""),
        ("beta=true&api_key=sk-own&v=1", "?beta=true&v=1"),
        ("v=1&X-Api-Key=sk-own", "?v=1"),
        ("access_token=sk-own&api-version=2", "?api-version=2"),
        ("monkey=1&keys=2", "?monkey=1&keys=2"),
    ],
)
def test_path__without_a_key_of_the_callers(query: str, passed: str) -> None:
    assert sent({"model": "large"}, query=query).path.decode() == f"/chat/completions{passed}"
    out = sent({"model": "large"}, key=None, query=query, provider={"pass_key": True, "keys": []})
    assert out.path.decode() == f"/chat/completions?{query}"
    # Not beside a key of ours, nor where callers have keys of the gateway: what is in the query is one of those.
    ours = sent({"model": "large"}, query=query, provider={"pass_key": True})
    tenants = {"pass_key": True, "keys": [], "tenants": [{"name": "t", "keys": ["callers"]}]}
    of_tenants = sent({"model": "large"}, key=None, query=query, provider=tenants)
    assert {ours.path.decode(), of_tenants.path.decode()} == {f"/chat/completions{passed}"}
