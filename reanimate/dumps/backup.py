"""Take a backup of a database: dumped in one snapshot, checked, packed, stored, published last."""

import asyncio
import json
import logging
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath

import obstore
from obstore.exceptions import BaseError
from pydantic import TypeAdapter, ValidationError

from reanimate import __version__
from reanimate.backups.catalog import MANIFEST, Catalog, Published, backup_prefix, new_backup_id
from reanimate.backups.manifest import Part, Server
from reanimate.backups.scratch import scratch_folder
from reanimate.backups.stored_parts import store_part
from reanimate.backups.unfinished import ABANDONED_AFTER, NOTE
from reanimate.clock import utcnow
from reanimate.dumps.dump import HASH_LIMIT, Dumped, Progress, dump_database
from reanimate.dumps.facts import DatabaseFacts, SettingOf
from reanimate.dumps.login import Login
from reanimate.dumps.manifest import DUMP, SETTINGS, PostgresManifest
from reanimate.dumps.programs import Programs
from reanimate.errors import Damaged, ReanimateError, Unreachable
from reanimate.storage.blobs import ObjectStore, read_object, remove_objects

__all__ = ["ROOT", "sweep_unfinished", "take_dump", "with_settings"]

log = logging.getLogger(__name__)

ROOT = "dumps"

_SETTINGS = TypeAdapter(list[SettingOf])


async def take_dump(
    login: Login,
    name: str,
    catalog: Catalog,
    found: list[Programs],
    *,
    backup_id: str | None = None,
    recovery_point: str | None = None,
    hash_limit: int = HASH_LIMIT,
    on_progress: Progress | None = None,
) -> Published[PostgresManifest]:
    """Back up the database that the settings call `name`, and return what was published.

    Nothing is listed before the manifest is written, which comes last. Stages of progress: dump, hash, check, store.

    Raises:
        ReanimateError: as `dump_database`, and what storing raises.
    """
    began = utcnow()
    backup_id = backup_id or new_backup_id(name, began)
    prefix = backup_prefix(name, backup_id, ROOT)
    await sweep_unfinished(catalog, name, began)
    note = f"{prefix}/{NOTE}"
    await _write_note(catalog.store, note, login.database, began)
    try:
        async with scratch_folder(catalog.scratch, "dump") as scratch:
            dumped = await dump_database(login, scratch / DUMP, found, hash_limit=hash_limit, on_progress=on_progress)
            report = (lambda done, total: on_progress("store", done, total)) if on_progress else None
            part = await store_part(catalog, f"{prefix}/{DUMP}", dumped.file, "rows", on_progress=report)
            apart = await _store_settings(catalog, f"{prefix}/{SETTINGS}", scratch / SETTINGS, dumped.facts)
        if part.sha256 != dumped.sha256:
            raise Damaged(
                f"storing {part.blob}: the dump changed on this machine's disk ({dumped.sha256} became {part.sha256})"
            )
        published = await catalog.publish(
            PostgresManifest(
                id=backup_id,
                subject=name,
                target=login.where,
                taken_at=dumped.taken_at,
                tool_version=__version__,
                parts=(part, *apart),
                recovery_point=recovery_point,
                warnings=_warnings(dumped),
                server=Server(title="PostgreSQL", version=dumped.facts.server_version),
                made_by=dumped.made_by,
                facts=_without_settings(dumped.facts),
            )
        )
    except BaseException:
        await _forget(catalog.store, [f"{prefix}/{DUMP}", f"{prefix}/{SETTINGS}", note])
        raise
    await _forget(catalog.store, [note])
    return published


async def _store_settings(catalog: Catalog, key: str, file: Path, facts: DatabaseFacts) -> list[Part]:
    """Store what ALTER DATABASE … SET has set as a part of its own, encrypted as parts are, if there is any."""
    if not facts.properties.settings:
        return []
    content = _SETTINGS.dump_json(facts.properties.settings)
    await asyncio.to_thread(file.write_bytes, content)
    return [await store_part(catalog, key, file, "text")]


def _without_settings(facts: DatabaseFacts) -> DatabaseFacts:
    """Return the facts fit for a manifest that anybody may read."""
    return facts.model_copy(update={"properties": facts.properties.model_copy(update={"settings": []})})


def with_settings(facts: DatabaseFacts, content: bytes) -> DatabaseFacts:
    """Return the facts with the settings of the part apart.

    Raises:
        Damaged: it cannot be read.
    """
    try:
        settings = _SETTINGS.validate_json(content)
    except ValidationError as error:
        raise Damaged(f"the settings of a backup cannot be read: {error.errors()[0]['msg']}") from None
    return facts.model_copy(update={"properties": facts.properties.model_copy(update={"settings": settings})})


def _warnings(dumped: Dumped) -> list[str]:
    warnings = [f"not in the dump: {what}" for what in dumped.facts.not_dumped]
    warnings += [
        f"{table.label} is proven by one row in {table.one_in}: it is larger than postgres.hash_limit_mb"
        for table in dumped.facts.sampled
    ]
    return warnings


async def _write_note(store: ObjectStore, key: str, database: str, began: datetime) -> None:
    content = json.dumps({"database": database, "began": began.isoformat()}).encode()
    try:
        await obstore.put_async(store, key, content)
    except (BaseError, OSError) as error:
        raise Unreachable(
            f"writing {key}: {error}", hint="see whether the blob store is reachable and has room"
        ) from error


async def _forget(store: ObjectStore, keys: list[str]) -> None:
    """Remove what is not needed; what cannot be removed is swept up later."""
    try:
        await remove_objects(store, keys)
    except ReanimateError as error:
        log.warning("what a backup of a database leaves stays for now: %s", error)


async def sweep_unfinished(
    catalog: Catalog, name: str, now: datetime, *, older_than: timedelta = ABANDONED_AFTER
) -> list[str]:
    """Remove what killed backups of this database left in the store, and return their ids.

    Published parts are never touched. Never raises: a backup must not fail over old crumbs.
    """
    swept = []
    try:
        keys = catalog.keys(str(PurePosixPath(backup_prefix(name, "x", ROOT)).parent))
        for key in keys:
            if PurePosixPath(key).name != NOTE:
                continue
            began = datetime.fromisoformat(json.loads(await read_object(catalog.store, key))["began"])
            if now - began < older_than:
                continue
            folder = str(PurePosixPath(key).parent)
            crumbs = [] if f"{folder}/{MANIFEST}" in keys else [one for one in keys if one.startswith(f"{folder}/")]
            await remove_objects(catalog.store, [*crumbs, key])
            swept.append(PurePosixPath(folder).name)
    except (ReanimateError, ValueError, KeyError) as error:
        log.warning("sweeping up after abandoned backups of database %s: %s", name, error)
    return swept
