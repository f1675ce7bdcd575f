"""Recognising that a server says a collection is not there, in the words of a recorded real one."""

import zlib

import pytest

from reanimate.gateway.vector.routing import classify
from reanimate.gateway.vector.targets import Target
from reanimate.gateway.vector.upstream import Answer, missing_name

TARGET = Target("primary", "http://a", is_primary=True)
ABSENT = b'{"status":{"error":"Not found: Collection `kb` doesn\'t exist!"},"time":0}'
QUERY = classify("POST", "/collections/kb/points/query")


def _answer(status: int, body: bytes, encoding: bytes = b"") -> Answer:
    return Answer(TARGET, status, [(b"content-encoding", encoding)] if encoding else [], body)


def test_missing_name__a_404_that_names_the_collection() -> None:
    """The name is told, since a query may also refer to another collection that is missing."""
    assert missing_name(_answer(404, ABSENT), QUERY) == "kb"


def test_missing_name__compressed_answers_are_read_too() -> None:
    """Servers compress when the client accepts it."""
    gzip = zlib.compressobj(wbits=31)
    assert missing_name(_answer(404, gzip.compress(ABSENT) + gzip.flush(), b"gzip"), QUERY) == "kb"
    assert missing_name(_answer(404, zlib.compress(ABSENT), b"deflate"), QUERY) == "kb"
    assert missing_name(_answer(404, b"not gzip", b"gzip"), QUERY) is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"status":{"error":"Not found: Point with id 123456 does not exists!"},"time":0}'),
        (404, b""),
        (400, ABSENT),
        (200, b'{"result":{"exists":false}}'),
    ],
)
def test_missing_name__other_answers_are_not_taken_for_it(status: int, body: bytes) -> None:
    """A missing point, an unknown route or a wrong request are answers as good as any."""
    assert missing_name(_answer(status, body), QUERY) is None


def test_missing_name__exists_says_it_with_a_200() -> None:
    """A client that asks before it creates must not be told that a lost collection may be created."""
    route = classify("GET", "/collections/kb/exists")
    assert missing_name(_answer(200, b'{"result":{"exists":false},"status":"ok","time":0.0}'), route) == "kb"
    assert missing_name(_answer(200, b'{"result": {"exists": true}}'), route) is None


def test_missing_name__names_come_unescaped() -> None:
    """JSON escapes are undone before names are compared."""
    body = b'{"status":{"error":"Not found: Collection `a\\"b\\u00e9` doesn\'t exist!"}}'
    assert missing_name(_answer(404, body), QUERY) == 'a"bé'
