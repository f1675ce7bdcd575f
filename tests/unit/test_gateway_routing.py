"""What a request is, by method and path."""

import pytest

from reanimate.gateway.vector.routing import Act, Kind, Route, classify

READS = [
    "GET /", "GET /healthz", "GET /livez", "GET /readyz", "GET /aliases", "GET /collections", "HEAD /collections/kb",
    "GET /collections/kb", "GET /collections/kb/exists", "GET /collections/kb/aliases", "GET /collections/kb/cluster",
    "GET /collections/kb/points/17", "GET /collections/kb/optimizations", "POST /collections/kb/points",
    "POST /collections/kb/points/query", "POST /collections/kb/points/query/batch",
    "POST /collections/kb/points/query/groups", "POST /collections/kb/points/search",
    "POST /collections/kb/points/search/matrix/pairs", "POST /collections/kb/points/search/matrix/offsets",
    "POST /collections/kb/points/recommend/groups", "POST /collections/kb/points/discover",
    "POST /collections/kb/points/scroll", "POST /collections/kb/points/count", "POST /collections/kb/facet",
    "POST /collections/kb/points/query/",
]  # fmt: skip
WRITES = [
    "PUT /collections/kb", "PATCH /collections/kb", "DELETE /collections/kb", "PUT /collections/kb/points",
    "POST /collections/kb/points/delete", "POST /collections/kb/points/payload", "PUT /collections/kb/points/payload",
    "POST /collections/kb/points/payload/clear", "PUT /collections/kb/points/vectors",
    "POST /collections/kb/points/vectors/delete", "POST /collections/kb/points/batch", "PUT /collections/kb/index",
    "DELETE /collections/kb/index/lang", "POST /collections/aliases", "POST /collections/kb/cluster",
    "POST /collections/kb/snapshots/upload", "PUT /collections/kb/snapshots/recover",
    "POST /collections/kb/shards/0/snapshots/upload", "POST /collections/kb/points/unheard-of", "POST /unheard-of",
    "PUT /collections/kb/shards", "GET /unheard-of",
]  # fmt: skip
ADMIN = [
    "GET /collections/kb/snapshots", "POST /collections/kb/snapshots", "GET /collections/kb/snapshots/a.snapshot",
    "DELETE /collections/kb/snapshots/a.snapshot", "POST /collections/kb/shards/0/snapshots",
    "GET /collections/kb/shards/0/snapshots/a.snapshot", "GET /collections/kb/shards/0/snapshot",
    "GET /collections/kb/shards/0/snapshot/partial/manifest", "GET /snapshots", "POST /snapshots", "GET /cluster",
    "DELETE /cluster/peer/1", "GET /metrics", "GET /telemetry", "GET /issues",
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "kind"),
    [(line, kind) for kind, lines in ((Kind.READ, READS), (Kind.WRITE, WRITES), (Kind.ADMIN, ADMIN)) for line in lines],
)
def test_classify__every_route_has_its_kind(line: str, kind: Kind) -> None:
    """Reads are named one by one; whatever is not known counts as a write, since it might be one."""
    method, path = line.split()
    assert classify(method, path).kind is kind


@pytest.mark.parametrize(
    ("line", "act"),
    [
        ("GET /collections/kb/exists", Act.EXISTS),
        ("PUT /collections/kb", Act.CREATE),
        ("DELETE /collections/kb", Act.DROP),
        ("POST /collections/aliases", Act.ALIASES),
        ("POST /collections/kb/shards/0/snapshot/partial/create", Act.PARTIAL),
        ("PUT /collections/kb/points", Act.PLAIN),
    ],
)
def test_classify__acts_that_need_more_are_told_apart(line: str, act: Act) -> None:
    """Creating, deleting, asking for existence and changing aliases are each treated in their own way."""
    method, path = line.split()
    assert classify(method, path).act is act


def test_classify__the_name_is_decoded() -> None:
    """Switches are scoped by the name itself, not by how a client happened to encode it."""
    assert classify("POST", "/collections/caf%C3%A9%20kb/points/query") == Route(Kind.READ, "café kb")
    assert classify("GET", "/collections").name is None


def test_classify__a_slash_in_a_name_is_no_separator() -> None:
    """An encoded slash belongs to the name and must not turn a write into a read."""
    assert classify("PUT", "/collections/a%2Fpoints%2Fquery") == Route(Kind.WRITE, "a/points/query", Act.CREATE)
