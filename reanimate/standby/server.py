"""The standby server's state: its collections and aliases, and what changes them."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from reanimate.standby.aliases import apply_action
from reanimate.standby.auth import Keys
from reanimate.standby.collection import Collection
from reanimate.standby.config_defaults import (
    changed_config,
    check_collection_name,
    named_vectors,
    new_config,
    sparse_names,
)
from reanimate.standby.errors import ApiError, collection_missing, format_error, wrong_input
from reanimate.standby.held import Held, oldest
from reanimate.standby.storage import CollectionState, Storage

__all__ = ["StandbyServer"]

Json = dict[str, Any]

log = logging.getLogger(__name__)

_REST_AFTER_S = 60.0


@dataclass
class StandbyServer:
    """All collections of one data directory. Changes to the set of them happen one at a time."""

    name: str
    storage: Storage
    keys: Keys
    collections: dict[str, Collection] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    offline: bool = False
    """Holds copies of backups for when no server is left: opened on demand, right rather than fast, their age told."""
    requests: dict[tuple[str, int], int] = field(default_factory=dict)
    """How many requests were answered, by method and status."""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _work: set[asyncio.Task[Any]] = field(default_factory=set)

    def start(self) -> None:
        """Open the collections of the data directory while requests are already taken."""
        self.aliases = self.storage.load_aliases()
        for name, state in self.storage.load_collections().items():
            self.collections[name] = Collection(self.storage, name, state)
            if self.offline:
                self.collections[name].scattered = True
                self.collections[name].stand_by()
            else:
                self.in_background(self.collections[name].open())
        if self.offline:
            self.in_background(self._let_rest())

    async def _let_rest(self) -> None:
        """Hold no memory for copies that nobody asks: the day they are needed they open in less than a second."""
        while True:
            await asyncio.sleep(_REST_AFTER_S / 4)
            for collection in list(self.collections.values()):
                await collection.rest(_REST_AFTER_S)

    async def stop(self) -> None:
        """Flush and end all shards."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await asyncio.gather(*(one.close() for one in self.collections.values()), return_exceptions=True)
        self.storage.close()

    def in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Let work go on after the answer; what fails is logged."""
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        task.add_done_callback(_log_failure)

    @property
    def ready(self) -> bool:
        return all(one.opened.is_set() for one in self.collections.values())

    def held_by(self, name: str | None) -> Held | None:
        """Return which backup an answer about that collection or alias comes from; without a name, the oldest."""
        if name is None:
            return oldest(held for one in self.collections.values() if (held := one.copy_of) is not None)
        found = self.find(name)
        return None if found is None else found.copy_of

    def find(self, name: str) -> Collection | None:
        return self.collections.get(name) or self.collections.get(self.aliases.get(name, ""))

    async def collection(self, name: str) -> Collection:
        """Return a collection by its name or alias, once it has been opened.

        Raises:
            ApiError: 404, there is none.
        """
        check_collection_name(name, new=False)
        found = self.find(name)
        if found is None:
            raise collection_missing(name)
        await found.opened.wait()
        return found

    async def create_collection(self, name: str, asked: Json) -> None:
        """Make an empty collection.

        Raises:
            ApiError: 400, 409, 422 or 501 as a server says it; nothing is left then.
        """
        check_collection_name(name, new=True)
        config = new_config(asked)
        async with self.changing:
            self.refuse_taken(name)
            has_vectors = named_vectors(config) or sparse_names(config)
            numbers = range(config["params"]["shard_number"]) if has_vectors else ()
            state = CollectionState(config, {shard: self.storage.new_shard_directory(shard) for shard in numbers})
            collection = Collection(self.storage, name, state)
            collection.scattered = self.offline
            try:
                await collection.create()
            except BaseException:
                await asyncio.to_thread(self.storage.discard, self.storage.collection(name))
                raise
            self.collections[name] = collection

    def refuse_taken(self, name: str) -> None:
        """Refuse a name that a collection or an alias has already."""
        if name in self.collections:
            raise ApiError(409, f"Wrong input: Collection `{name}` already exists!")
        if name in self.aliases:
            raise wrong_input(f"Can't create collection with name {name}. Alias with the same name already exists")

    async def change_collection(self, name: str, asked: Json) -> None:
        """Apply the body of `PATCH`."""
        collection = await self.collection(name)
        async with self.changing:
            await collection.change(changed_config(collection.config, asked))

    async def delete_collection(self, name: str) -> bool:
        """Remove a collection and the aliases that lead to it; an alias is not a collection and removes nothing."""
        async with self.changing:
            collection = self.collections.get(name)
            if collection is None:
                return False
            await collection.opened.wait()
            kept = {alias: target for alias, target in self.aliases.items() if target != name}
            if kept != self.aliases:
                await asyncio.to_thread(self.storage.save_aliases, kept)
                self.aliases = kept
            async with collection.deletion():
                trash = await asyncio.to_thread(self.storage.remove_collection, name)
            del self.collections[name]
        await collection.close(at_once=True)
        if trash is not None:
            await asyncio.to_thread(self.storage.discard, trash)
        return True

    async def update_aliases(self, actions: Any) -> None:
        """Apply alias actions in order. When one is refused, those before it stay applied, as on a server."""
        if not isinstance(actions, list):
            raise format_error("missing field `actions`")
        async with self.changing:
            aliases = self.aliases
            try:
                for action in actions:
                    aliases = apply_action(aliases, set(self.collections), action)
            finally:
                if aliases != self.aliases:
                    await asyncio.to_thread(self.storage.save_aliases, aliases)
                    self.aliases = aliases


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("work in the background failed: %s", error)
