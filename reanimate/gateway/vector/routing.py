"""What a request is, by its method and path: a table, read from top to bottom. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import unquote

__all__ = ["Act", "Kind", "Route", "classify"]


class Kind(StrEnum):
    """Who may answer."""

    READ = "read"
    """Any target that the switches allow; failed over."""
    WRITE = "write"
    """The primary, once, or nobody."""
    ADMIN = "admin"
    """The primary: snapshots, cluster, telemetry. Not failed over: the answer is about that one server."""


class Act(StrEnum):
    """Requests that need more than their kind."""

    PLAIN = "plain"
    EXISTS = "exists"
    """A missing collection is a 200 here."""
    CREATE = "create"
    DROP = "drop"
    ALIASES = "aliases"
    """The names are in the body."""
    PARTIAL = "partial"
    """Some servers answer 304 with a body here, which spoils the connection for the next answer."""


@dataclass(frozen=True, slots=True)
class Route:
    """A classified request. `name` is the collection or alias of the path, percent-decoded."""

    kind: Kind
    name: str | None = None
    act: Act = Act.PLAIN


# `{name}` is a collection or an alias, `*` any one segment, `**` any rest or none. GET covers HEAD, `*` any method.
_TABLE: tuple[tuple[str, str, Kind, Act], ...] = (
    ("GET", "/", Kind.READ, Act.PLAIN),
    ("GET", "/healthz", Kind.READ, Act.PLAIN),
    ("GET", "/livez", Kind.READ, Act.PLAIN),
    ("GET", "/readyz", Kind.READ, Act.PLAIN),
    ("GET", "/aliases", Kind.READ, Act.PLAIN),
    # Snapshots: putting one in changes data, everything else is about the server that is asked.
    ("POST", "/collections/{name}/snapshots/upload", Kind.WRITE, Act.PLAIN),
    ("PUT", "/collections/{name}/snapshots/recover", Kind.WRITE, Act.PLAIN),
    ("*", "/collections/{name}/snapshots/**", Kind.ADMIN, Act.PLAIN),
    ("POST", "/collections/{name}/shards/*/snapshots/upload", Kind.WRITE, Act.PLAIN),
    ("PUT", "/collections/{name}/shards/*/snapshots/recover", Kind.WRITE, Act.PLAIN),
    ("*", "/collections/{name}/shards/*/snapshots/**", Kind.ADMIN, Act.PLAIN),
    ("POST", "/collections/{name}/shards/*/snapshot/partial/create", Kind.ADMIN, Act.PARTIAL),
    ("GET", "/collections/{name}/shards/*/snapshot/**", Kind.ADMIN, Act.PLAIN),
    # Collections.
    ("POST", "/collections/aliases", Kind.WRITE, Act.ALIASES),
    ("GET", "/collections/{name}/exists", Kind.READ, Act.EXISTS),
    ("GET", "/collections", Kind.READ, Act.PLAIN),
    ("GET", "/collections/{name}/**", Kind.READ, Act.PLAIN),
    ("PUT", "/collections/{name}", Kind.WRITE, Act.CREATE),
    ("DELETE", "/collections/{name}", Kind.WRITE, Act.DROP),
    # Points: the reads that come as POST, each named; what is not named is a write.
    ("POST", "/collections/{name}/points", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/query", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/query/batch", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/query/groups", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/search", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/search/batch", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/search/groups", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/search/matrix/pairs", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/search/matrix/offsets", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/recommend", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/recommend/batch", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/recommend/groups", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/discover", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/discover/batch", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/scroll", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/points/count", Kind.READ, Act.PLAIN),
    ("POST", "/collections/{name}/facet", Kind.READ, Act.PLAIN),
    ("*", "/collections/{name}/**", Kind.WRITE, Act.PLAIN),
    # About one server.
    ("*", "/snapshots/**", Kind.ADMIN, Act.PLAIN),
    ("*", "/cluster/**", Kind.ADMIN, Act.PLAIN),
    ("GET", "/metrics", Kind.ADMIN, Act.PLAIN),
    ("GET", "/telemetry", Kind.ADMIN, Act.PLAIN),
    ("*", "/issues/**", Kind.ADMIN, Act.PLAIN),
    ("GET", "/dashboard/**", Kind.ADMIN, Act.PLAIN),
)

_ROWS = tuple((method, pattern.strip("/").split("/"), kind, act) for method, pattern, kind, act in _TABLE)


def _match(pattern: list[str], segments: list[str]) -> tuple[bool, str | None]:
    """Say whether `segments` fit, and what stands for `{name}`."""
    if pattern[-1] == "**":
        pattern = pattern[:-1]
        segments, rest = segments[: len(pattern)], segments[len(pattern) :]
    else:
        rest = []
    if len(pattern) != len(segments):
        return False, None
    name: str | None = None
    for wanted, segment in zip(pattern, segments, strict=True):
        if wanted == "{name}":
            name = unquote(segment)
        elif wanted not in ("*", segment):
            return False, None
    return all(rest), name


@lru_cache(maxsize=4096)
def classify(method: str, path: str) -> Route:
    """Return what a request is. `path` is the raw path without the query; what is not known is a write."""
    method = "GET" if method == "HEAD" else method
    segments = path.strip("/").split("/")
    for wanted, pattern, kind, act in _ROWS:
        if wanted in ("*", method):
            fits, name = _match(pattern, segments)
            if fits:
                return Route(kind, name, act)
    return Route(Kind.WRITE)
