"""Small objects of a store: created once, read and deleted whole. A crash leaves the whole object or none."""

import asyncio

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore

from reanimate.errors import ConfigInvalid, NotFound, ReanimateError, Refused, Unreachable
from reanimate.storage.transport import delete_object, sync_object, told

__all__ = ["ObjectStore", "create_object", "read_object", "remove_objects"]


async def create_object(store: ObjectStore, key: str, content: bytes) -> None:
    """Write a small object that must not exist yet.

    Raises:
        Refused: it exists, with other content.
        ConfigInvalid: there is no such bucket.
        Unreachable: the store could not be written.
    """
    try:
        await obstore.put_async(store, key, content, mode="create")
    except (AlreadyExistsError, FileExistsError) as error:
        # After a lost reply it is our own.
        if await read_object(store, key) != content:
            raise Refused(f"storing {key}: it exists already, with other content") from error
    except FileNotFoundError as error:
        raise ConfigInvalid(f"storing {key}: the bucket does not exist", hint="make it, or mend the url") from error
    except (BaseError, OSError) as error:
        failure = told(error, f"storing {key}")
        # A create is not sent again below us; it may have happened all the same.
        if not isinstance(failure, Unreachable) or not await _holds(store, key, content):
            raise failure from error
    await asyncio.to_thread(sync_object, store, key)


async def _holds(store: ObjectStore, key: str, content: bytes) -> bool:
    try:
        return await read_object(store, key) == content
    except ReanimateError:
        return False


async def read_object(store: ObjectStore, key: str) -> bytes:
    """Return the whole of a small object.

    Raises:
        NotFound: there is none.
        Unreachable: the store could not be read.
    """
    try:
        answer = await obstore.get_async(store, key)
        return bytes(await answer.bytes_async())
    except FileNotFoundError as error:
        raise NotFound(f"{key} is not in the blob store") from error
    except (BaseError, OSError) as error:
        raise told(error, f"reading {key}") from error


async def remove_objects(store: ObjectStore, keys: list[str]) -> None:
    """Delete objects; those that are gone already are fine.

    Raises:
        Unreachable: the store could not be written.
        Refused: the store keeps them.
    """
    for key in keys:
        await asyncio.to_thread(delete_object, store, key)
