"""What passes through, and which key a target is spoken to with."""

from reanimate.gateway.vector.headers import KeyRing, answer_headers, request_headers
from reanimate.gateway.vector.targets import Target

PRIMARY = Target("primary", "http://a", is_primary=True, api_key="secret-a")
REPLICA = Target("replica", "http://b", is_primary=False, api_key="secret-b")
OPEN = Target("open", "http://c", is_primary=False)


def test_request_headers__hop_by_hop_ones_end_here() -> None:
    """Also those that a Connection header names; the rest passes on as it came."""
    sent = [
        (b"host", b"gateway"), (b"connection", b"x-mine, keep-alive"), (b"x-mine", b"1"), (b"te", b"trailers"),
        (b"content-length", b"3"), (b"content-type", b"application/json"), (b"traceparent", b"00-ab"),
    ]  # fmt: skip
    assert request_headers(sent) == [("content-type", "application/json"), ("traceparent", "00-ab")]


def test_request_headers__only_encodings_that_the_gateway_can_read_are_asked_for() -> None:
    """It must recognise a missing collection in a compressed answer too."""
    assert request_headers([(b"accept-encoding", b"gzip, deflate, br, zstd")]) == [("accept-encoding", "gzip, deflate")]
    assert request_headers([(b"accept-encoding", b"br")]) == [("accept-encoding", "identity")]
    assert request_headers([(b"accept-encoding", b"gzip")]) == [("accept-encoding", "gzip")]
    assert request_headers([]) == []


def test_answer_headers__marks_of_another_gateway_do_not_pass_for_ours() -> None:
    """Lower-cased as ASGI wants it, without what belongs to the connection."""
    raw = (
        (b"Content-Type", b"a/b"),
        (b"X-Reanimate-Target", b"?"),
        (b"Transfer-Encoding", b"chunked"),
        (b"ETag", b"1"),
    )
    assert answer_headers(raw) == [(b"content-type", b"a/b"), (b"etag", b"1")]


def test_key_ring__one_configured_key_opens_every_target() -> None:
    """An agent that knows the primary's key is served by the replica with the replica's."""
    ring = KeyRing([PRIMARY, REPLICA])
    for proof in ([("api-key", "secret-a")], [("authorization", "Bearer secret-b")], []):
        assert ring.for_target(REPLICA, proof) == [("api-key", "secret-b")]


def test_key_ring__a_foreign_key_is_passed_on_for_the_server_to_refuse() -> None:
    """The gateway gives nobody more rights than the key that was shown."""
    ring = KeyRing([PRIMARY, REPLICA])
    assert ring.for_target(PRIMARY, [("api-key", "guess")]) == [("api-key", "guess")]
    assert ring.for_target(PRIMARY, [("authorization", "Bearer a.b.c")]) == [("authorization", "Bearer a.b.c")]


def test_key_ring__without_a_configured_key_the_clients_own_passes() -> None:
    """Nothing is added where nothing is known."""
    ring = KeyRing([OPEN])
    assert ring.for_target(OPEN, [("api-key", "mine")]) == [("api-key", "mine")]
    assert ring.for_target(OPEN, []) == []


def test_target__its_key_is_not_in_its_repr() -> None:
    """A target may land in a log line."""
    assert "secret-a" not in repr(PRIMARY)
