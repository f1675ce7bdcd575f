"""Every route in one table: what exists, who may use it, and what a real server has that this one has not."""

from reanimate.standby import collection_routes as collections
from reanimate.standby import offline_routes as offline
from reanimate.standby import partial_routes as partials
from reanimate.standby import read_routes as reads
from reanimate.standby import service_routes as service
from reanimate.standby import snapshot_routes as snapshots
from reanimate.standby.auth import Right
from reanimate.standby.errors import not_implemented
from reanimate.standby.http import Handler, Request, Response, Route
from reanimate.standby.server import StandbyServer
from reanimate.standby.write_routes import batch, change_points

__all__ = ["ROUTES"]

OPEN, READ, WRITE, CONTROL = Right.OPEN, Right.READ, Right.WRITE, Right.CONTROL
C = "/collections/{collection}"
S = C + "/shards/{shard}"


def _missing(name: str) -> Handler:
    """Make the handler of a route that a real server has and this one has not."""

    async def refuse(server: StandbyServer, request: Request) -> Response:
        raise not_implemented(name)

    return refuse


_SERVICE = [
    Route("GET", "/", OPEN, service.welcome),
    Route("GET", "/healthz", OPEN, service.health),
    Route("GET", "/livez", OPEN, service.health),
    Route("GET", "/readyz", OPEN, service.ready),
    Route("GET", "/metrics", READ, service.metrics),
    Route("GET", "/cluster", READ, service.cluster),
    Route("GET", "/issues", READ, service.issues),
]
_COLLECTIONS = [
    Route("GET", "/collections", READ, collections.list_collections),
    Route("POST", "/collections/aliases", WRITE, collections.update_aliases),
    Route("GET", "/aliases", READ, collections.list_aliases),
    Route("GET", C, READ, collections.info),
    Route("PUT", C, WRITE, collections.create),
    Route("PATCH", C, WRITE, collections.change),
    Route("DELETE", C, WRITE, collections.delete),
    Route("GET", C + "/exists", READ, collections.exists),
    Route("GET", C + "/aliases", READ, collections.aliases_of),
    Route("GET", C + "/cluster", READ, collections.cluster_info),
    Route("PUT", C + "/index", WRITE, collections.create_index),
    Route("DELETE", C + "/index/{field}", WRITE, collections.delete_index),
]
_READS = [
    Route("GET", C + "/points/{id}", READ, reads.point),
    Route("POST", C + "/points", READ, reads.retrieve),
    Route("POST", C + "/points/scroll", READ, reads.scroll_points),
    Route("POST", C + "/points/count", READ, reads.count),
    Route("POST", C + "/facet", READ, reads.facets),
    Route("POST", C + "/points/query", READ, reads.query),
    Route("POST", C + "/points/query/batch", READ, reads.query_many),
    Route("POST", C + "/points/search", READ, reads.search),
    Route("POST", C + "/points/search/batch", READ, reads.search_many),
    Route("POST", C + "/points/recommend", READ, reads.recommend),
    Route("POST", C + "/points/recommend/batch", READ, reads.recommend_many),
]
_WRITES = [
    Route("PUT", C + "/points", WRITE, change_points("upsert")),
    Route("POST", C + "/points/delete", WRITE, change_points("delete")),
    Route("POST", C + "/points/payload", WRITE, change_points("set_payload")),
    Route("PUT", C + "/points/payload", WRITE, change_points("overwrite_payload")),
    Route("POST", C + "/points/payload/delete", WRITE, change_points("delete_payload")),
    Route("POST", C + "/points/payload/clear", WRITE, change_points("clear_payload")),
    Route("PUT", C + "/points/vectors", WRITE, change_points("update_vectors")),
    Route("POST", C + "/points/vectors/delete", WRITE, change_points("delete_vectors")),
    Route("POST", C + "/points/batch", WRITE, batch),
]
_SNAPSHOTS = [
    *(
        route
        for base in (C, S)
        for route in (
            Route("POST", base + "/snapshots", WRITE, snapshots.create),
            Route("GET", base + "/snapshots", READ, snapshots.list_all),
            Route("PUT", base + "/snapshots/recover", WRITE, snapshots.recover),
            Route("GET", base + "/snapshots/{snapshot}", READ, snapshots.get),
            Route("DELETE", base + "/snapshots/{snapshot}", WRITE, snapshots.delete),
        )
    ),
    Route("POST", C + "/snapshots/upload", WRITE, snapshots.upload_collection),
    Route("POST", S + "/snapshots/upload", WRITE, snapshots.upload_shard),
    Route("GET", S + "/snapshot", WRITE, snapshots.stream),
    Route("GET", S + "/snapshot/partial/manifest", READ, partials.manifest),
    Route("POST", S + "/snapshot/partial/create", WRITE, partials.create),
    Route("POST", S + "/snapshot/partial/recover", WRITE, partials.recover),
]
_OFFLINE = [
    Route("GET", "/offline/copies", READ, offline.list_held),
    Route("PUT", "/offline/copies/{collection}", CONTROL, offline.note_held),
]
_MISSING = [
    Route(method, path, right, _missing(name))
    for method, path, right, name in (
        ("GET", "/telemetry", READ, "telemetry"),
        ("GET", "/snapshots", READ, "snapshots of the whole storage"),
        ("POST", "/snapshots", WRITE, "snapshots of the whole storage"),
        ("GET", "/snapshots/{snapshot}", READ, "snapshots of the whole storage"),
        ("DELETE", "/snapshots/{snapshot}", WRITE, "snapshots of the whole storage"),
        ("POST", S + "/snapshot/partial/recover_from", WRITE, "partial snapshots fetched from another peer"),
        ("POST", C + "/cluster", WRITE, "cluster operations"),
        ("POST", "/cluster/recover", WRITE, "cluster operations"),
        ("DELETE", "/cluster/peer/{peer}", WRITE, "cluster operations"),
        ("GET", C + "/shards", READ, "custom sharding"),
        ("PUT", C + "/shards", WRITE, "custom sharding"),
        ("POST", C + "/shards/delete", WRITE, "custom sharding"),
        ("POST", C + "/points/query/groups", READ, "grouped queries"),
        ("POST", C + "/points/search/groups", READ, "grouped queries"),
        ("POST", C + "/points/recommend/groups", READ, "grouped queries"),
        ("POST", C + "/points/discover", READ, "the discover route; POST …/points/query does it"),
        ("POST", C + "/points/discover/batch", READ, "the discover route; POST …/points/query does it"),
        ("POST", C + "/points/search/matrix/pairs", READ, "distance matrices"),
        ("POST", C + "/points/search/matrix/offsets", READ, "distance matrices"),
        ("DELETE", "/issues", WRITE, "clearing issues"),
        ("GET", C + "/optimizations", READ, "optimizer reports"),
        ("GET", C + "/memory", READ, "memory reports"),
    )
]

ROUTES: tuple[Route, ...] = (*_SERVICE, *_COLLECTIONS, *_WRITES, *_READS, *_SNAPSHOTS, *_OFFLINE, *_MISSING)
"""The first that fits is taken."""
