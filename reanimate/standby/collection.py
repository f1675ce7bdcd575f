"""One collection: its config, its shards, and the fan-out to their processes."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from reanimate.standby.errors import ApiError, collection_missing, not_found, not_implemented
from reanimate.standby.held import Held
from reanimate.standby.points import PointId, divide
from reanimate.standby.ring import HashRing
from reanimate.standby.shard_client import ShardClient
from reanimate.standby.storage import CollectionState, Storage

__all__ = ["Collection"]

Json = dict[str, Any]


class Collection:
    """A collection that is on disk. Its shards are opened once, by `open` or `create`."""

    def __init__(self, storage: Storage, name: str, state: CollectionState) -> None:
        self.storage = storage
        self.name = name
        self.state = state
        self.shards: dict[int, ShardClient] = {}
        self.ring = HashRing(sorted(state.shards))
        self.scattered = False
        """Whether a point may be in any shard: in a copy of a collection whose shards were chosen by key."""
        self.opened = asyncio.Event()
        self.recovering: set[int] = set()
        """Shards onto which a partial snapshot is being put."""
        self._writing = asyncio.Lock()
        self._deleted = False
        self._operations = 0

    @property
    def config(self) -> Json:
        return self.state.config

    @property
    def copy_of(self) -> Held | None:
        """Of which backup this is a copy, on an offline standby; None while a copy is being loaded."""
        try:
            return None if self.state.held is None else Held.of(self.state.held)
        except ApiError:  # stored by another version: a copy of unknown age is not served
            return None

    async def note_copy_of(self, held: Held) -> None:
        """Note of which backup this is a copy."""
        async with self._exclusive():
            state = CollectionState(self.config, self.state.shards, held.as_json())
            await asyncio.to_thread(self.storage.save_collection, self.name, state)
            self.state = state

    async def create(self) -> None:
        """Make the empty shards, then the config that makes the collection exist."""
        self.shards = {shard: self._client(directory) for shard, directory in self.state.shards.items()}
        try:
            await asyncio.gather(*(shard.create() for shard in self.shards.values()))
        except BaseException:
            await self.close()
            raise
        await asyncio.to_thread(self.storage.save_collection, self.name, self.state)
        self.opened.set()

    async def open(self) -> None:
        """Start the processes of all shards. One that cannot be opened answers errors and does not stop the others."""
        self.shards = {shard: self._client(directory) for shard, directory in self.state.shards.items()}
        await asyncio.gather(*(shard.load() for shard in self.shards.values()), return_exceptions=True)
        self.count_operations_from(self.shards.values())
        self.opened.set()

    def stand_by(self) -> None:
        """Be there without any process: each shard is opened by the first request that needs it."""
        self.shards = {shard: self._client(directory) for shard, directory in self.state.shards.items()}
        self.opened.set()

    async def rest(self, idle_s: float) -> None:
        """End the processes of shards that nobody has asked anything for `idle_s` seconds."""
        for shard in list(self.shards.values()):
            await shard.rest(idle_s)

    def adopt(self, opened: dict[int, ShardClient]) -> None:
        """Serve shards that were opened elsewhere."""
        self.shards = opened
        self.count_operations_from(opened.values())
        self.opened.set()

    def count_operations_from(self, shards: Iterable[ShardClient]) -> None:
        """Number operations after those that the shards have seen."""
        self._operations = max([self._operations, *(shard.info.get("version", 0) for shard in shards)])

    async def close(self, *, at_once: bool = False) -> None:
        await asyncio.gather(*(shard.close(at_once=at_once) for shard in self.shards.values()))

    def _client(self, directory: str) -> ShardClient:
        return ShardClient(self.storage.shard(self.name, directory), self.config)

    def shard(self, shard: int) -> ShardClient:
        """Return a shard by id.

        Raises:
            ApiError: 404, there is none.
        """
        if shard not in self.shards:
            raise not_found(f"shard {shard} not found")
        return self.shards[shard]

    async def ask_all(self, op: str, **arguments: Any) -> list[Any]:
        """Ask every shard the same; answers are in the order of the shard ids."""
        return list(await asyncio.gather(*(self.shards[one].call(op, **arguments) for one in sorted(self.shards))))

    async def retrieve(self, ids: list[PointId], with_payload: Any, with_vector: Any) -> list[Json]:
        """Return the points that exist, in the order asked."""
        wanted: dict[int, list[PointId]] = {}
        for point in ids:
            for shard in self.shards if self.scattered else (self.ring.shard_of(point),):
                wanted.setdefault(shard, []).append(point)
        answers = await asyncio.gather(
            *(
                self.shards[shard].call("retrieve", ids=part, with_payload=with_payload, with_vector=with_vector)
                for shard, part in wanted.items()
                if shard in self.shards
            )
        )
        found = {record["id"]: record for answer in answers for record in answer}
        return [found[point] for point in dict.fromkeys(ids) if point in found]

    async def update(self, operations: list[Json]) -> list[int]:
        """Apply operations in order, each of them logged by all shards it concerns when this returns.

        Returns the numbers given to the operations.
        """
        if not self.shards:
            raise not_implemented("points in a collection without vectors")
        numbers = []
        async with self._exclusive():
            if self.state.held is not None:  # from here on it is no backup's copy
                self.state = CollectionState(self.config, self.state.shards)
                await asyncio.to_thread(self.storage.save_collection, self.name, self.state)
            for operation in operations:
                self._operations += 1
                numbers.append(self._operations)
                parts = divide(operation, sorted(self.shards), self.ring.shard_of)
                await asyncio.gather(
                    *(self.shards[shard].call("update", operations=[part]) for shard, part in parts.items())
                )
        return numbers

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        """Let nobody else change the collection meanwhile; one that was deleted is not changed at all."""
        async with self._writing:
            if self._deleted:
                raise collection_missing(self.name)
            yield

    @asynccontextmanager
    async def deletion(self) -> AsyncIterator[None]:
        """Wait for the change that is under way; those that wait behind find nothing to change any more."""
        async with self._exclusive():
            yield
            self._deleted = True

    @asynccontextmanager
    async def held(self, shards: Iterable[int]) -> AsyncIterator[dict[int, int]]:
        """Hold writes back, with the named shards flushed: their files hold everything, and do not change.

        Yields the newest operation's number of each of those shards. Reads go on.
        """
        async with self._exclusive():
            wanted = list(shards)
            versions = await asyncio.gather(*(self.shard(one).call("flush") for one in wanted))
            yield dict(zip(wanted, versions, strict=True))

    async def replace(self, fresh: dict[int, ShardClient], config: Json) -> None:
        """Let opened shards take the place of those with the same ids, all by one rename; then remove the old ones."""
        async with self._exclusive():
            old = {shard: self.shards[shard] for shard in fresh if shard in self.shards}
            shards = {**self.state.shards, **{shard: client.directory.name for shard, client in fresh.items()}}
            state = CollectionState(config, shards)
            await asyncio.to_thread(self.storage.save_collection, self.name, state)
            self.state = state
            self.shards = {**self.shards, **fresh}
            self.ring = HashRing(sorted(shards))
            self.count_operations_from(fresh.values())
        for client in old.values():
            await client.close(at_once=True)
            await asyncio.to_thread(self.storage.discard, client.directory)

    async def change(self, config: Json) -> None:
        """Store a changed config; the engine takes it over at the next start of the shards."""
        async with self._exclusive():
            state = CollectionState(config, self.state.shards, self.state.held)
            await asyncio.to_thread(self.storage.save_collection, self.name, state)
            self.state = state
            for client in self.shards.values():
                client.config = config

    async def info(self) -> Json:
        """Say what `GET /collections/{c}` says, from all shards."""
        parts = await self.ask_all("info")
        schema: Json = {}
        for part in parts:
            for field, index in part["payload_schema"].items():
                points = schema.get(field, {}).get("points", 0) + index["points"]
                schema[field] = {**index, "points": points}
        return {
            "status": "green",
            "optimizer_status": "ok",
            "indexed_vectors_count": sum(part["indexed_vectors_count"] for part in parts),
            "points_count": sum(part["points_count"] for part in parts),
            "segments_count": sum(part["segments_count"] for part in parts),
            "config": self.config,
            "payload_schema": schema,
            "update_queue": {"length": 0},
        }
