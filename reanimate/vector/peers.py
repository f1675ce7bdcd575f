"""Which peers a target has, each by its own URL, and which of them a URL really leads to.

A snapshot holds the shards of one peer only, and is listed and downloaded at that peer only. A URL behind which now
this peer answers and now that one (a load balancer) gives small snapshots that look whole, so it is refused here.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from reanimate.errors import Refused, Unreachable
from reanimate.vector.server import Json, VectorServer

__all__ = ["CLUSTER_HINT", "Peers", "cluster_info", "cluster_view", "find_peers"]

CLUSTER_HINT = "give each peer of the cluster its own URL in `peers` of this target, never a load balancer's"

_ATTEMPTS = 2
"""A peer that was wiped and joined anew has another id once; a load balancer has another one again and again."""


@dataclass(frozen=True)
class Peers:
    """The peers of a target. A single server is one peer, and `distributed` is False."""

    distributed: bool
    members: Mapping[int, str]
    """Every peer that the cluster knows: id -> the address under which the peers reach each other."""
    servers: Mapping[int, VectorServer]
    """The peers that answered at a configured URL."""
    silent: Mapping[str, str] = field(default_factory=dict)
    """Configured URLs at which nothing answered -> what was found instead."""

    @property
    def without_url(self) -> list[int]:
        """Return the ids of the peers that cannot be reached from here."""
        return sorted(set(self.members) - set(self.servers))

    def named(self, peer_id: int) -> str:
        """Say which peer that is, for a message."""
        server = self.servers.get(peer_id)
        return f"peer {peer_id} ({server.url})" if server else f"peer {peer_id} ({self.members.get(peer_id, '?')})"


async def find_peers(server: VectorServer) -> Peers:
    """Ask every configured URL which peer it is.

    Raises:
        Unreachable: none answered.
        Refused: a URL leads now to this peer and now to that one, two URLs lead to the same one, or they belong to
            different clusters.
    """
    candidates = server.peer_servers()
    found = await asyncio.gather(*(_identify(one) for one in candidates))
    silent = {
        one.url: str(reason) for one, reason in zip(candidates, found, strict=True) if isinstance(reason, Exception)
    }
    answered = [(one, answer) for one, answer in zip(candidates, found, strict=True) if isinstance(answer, dict)]
    if not answered:
        reason = next(answer for answer in found if isinstance(answer, Exception))
        raise reason
    if alone := [one for one, answer in answered if answer["status"] == "disabled"]:
        if len(candidates) > 1:
            raise Refused(
                f"looking for the peers of {server.name}: {alone[0].url} is a single server, not a peer of a cluster",
                hint="a single server needs no `peers`",
            )
        return Peers(False, {0: alone[0].url}, {0: alone[0]})
    servers: dict[int, VectorServer] = {}
    members: dict[int, str] = {}
    for one, answer in answered:
        peer_id = int(answer["peer_id"])
        if peer_id in servers:
            raise Refused(
                f"looking for the peers of {server.name}: {servers[peer_id].url} and {one.url} both lead to peer "
                f"{peer_id}, so one of them is not that peer's own",
                hint=CLUSTER_HINT,
            )
        servers[peer_id] = one
        listed = {int(known): str(row.get("uri", "")) for known, row in (answer.get("peers") or {}).items()}
        if members and not members.keys() & listed.keys():
            raise Refused(
                f"looking for the peers of {server.name}: {one.url} belongs to another cluster than "
                f"{answered[0][0].url}"
            )
        members |= listed
    return Peers(True, members, servers, silent)


async def cluster_info(server: VectorServer) -> Json:
    """Return what one peer says of the cluster; `{"status": "disabled"}` from a single server."""
    doing = f"asking {server.url} which peer it is"
    answer = await server.request("GET", "/cluster", doing=doing, timeout_s=5.0)
    info: Json = server.result(answer, doing)
    return info


async def cluster_view(server: VectorServer, collection: str, expected: int | None = None) -> Json:
    """Return what one peer says of a collection's shards, and see that it is the peer `expected`.

    Raises:
        NotFound: no such collection.
        Refused: another peer answered, twice.
    """
    doing = f"asking {server.url} for the shards of {collection!r}"
    seen: list[int] = []
    for _ in range(_ATTEMPTS):
        answer = await server.request("GET", server.path(collection, "cluster"), doing=doing, timeout_s=10.0)
        view: Json = server.result(answer, doing)
        if expected in (None, 0, view["peer_id"]):
            return view
        seen.append(int(view["peer_id"]))
    raise Refused(_two_faced(server, [int(expected or 0), *seen]), hint=CLUSTER_HINT)


async def _identify(server: VectorServer) -> Json | Unreachable:
    """Ask one URL twice which peer it is.

    Raises:
        Refused: it does not say the same.
    """
    try:
        answers = [await cluster_info(server) for _ in range(_ATTEMPTS)]
    except Unreachable as error:
        return error
    if len({answer.get("peer_id") for answer in answers}) > 1:
        raise Refused(_two_faced(server, [int(answer["peer_id"]) for answer in answers]), hint=CLUSTER_HINT)
    return answers[0]


def _two_faced(server: VectorServer, seen: list[int]) -> str:
    others = ", then ".join(str(peer) for peer in seen)
    return f"looking for the peers of {server.name}: {server.url} leads to peer {others}: it is not one peer's own URL"
