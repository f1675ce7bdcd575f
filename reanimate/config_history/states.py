"""What differs between two versions of a subject, or between one and what is there now."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from reanimate.config_history.differences import Line, compare
from reanimate.config_history.keeping import ConfigHistory
from reanimate.config_history.reading import owner_name, read
from reanimate.config_history.server_settings import read_setting, to_content
from reanimate.config_history.subjects import Setting, is_setting, path_of, subject_of
from reanimate.config_history.versions import Version, choose
from reanimate.errors import NotFound

__all__ = ["State", "compare_states", "difference", "live_state", "state_of"]

LIVE = "live"


@dataclass(frozen=True)
class State:
    """A content, and what is to be said beside it."""

    name: str
    content: bytes | None
    facts: dict[str, str | None]


async def difference(history: ConfigHistory, subject: str, before: str | None, after: str | None) -> list[Line]:
    """Compare two versions by what a person calls them; see `choose`, and `live`.

    Without any: the newest against what is there now, and if that is the same, the one before against it. With only
    the second: from the one before it. With only the first: to what is there now.

    Raises:
        NotFound: there is no such version, or no such server.
        Damaged, Unreachable: a content cannot be had.
    """
    versions = await history.versions(subject)
    if before is None and after is None:
        newest = await state_of(history, choose(versions, "latest"))
        if lines := compare_states(newest, await live_state(history, subject), settings=is_setting(subject)):
            return lines
        if len(versions) == 1:
            return []
        return compare_states(await state_of(history, versions[1]), newest, settings=is_setting(subject))
    states = []
    for asked in (before or _before(versions, after), after or LIVE):
        if asked == LIVE:
            states.append(await live_state(history, subject))
        else:
            states.append(await state_of(history, choose(versions, asked)))
    return compare_states(*states, settings=is_setting(subject))


async def state_of(history: ConfigHistory, version: Version) -> State:
    """Return the state that a version is."""
    facts = {"is": version.kind, "symlink to": version.link, "mode": version.mode, "owner": version.owner}
    name = f"{version.subject} {version.id} of {version.found_at:%Y-%m-%d %H:%M:%S} by {version.author}"
    return State(name, await history.content(version), facts)


async def live_state(history: ConfigHistory, subject: str) -> State:
    """Return the state that a subject is in now.

    Raises:
        NotFound: its server is not among the targets.
        Unreachable: its server does not answer.
    """
    name = f"{subject} {LIVE}"
    if is_setting(subject):
        setting = Setting.parse(subject)
        if setting.target not in history.servers:
            raise NotFound(f"no vector target called {setting.target!r} is within reach")
        try:
            content = to_content(await read_setting(history.servers[setting.target], setting))
        except NotFound:
            return State(name, None, {"is": "deleted"})
        return State(name, content, {"is": "settings"})
    seen = await asyncio.to_thread(read, Path(path_of(subject)), history.settings.max_file_bytes)
    if seen.look.kind == "missing":
        return State(name, None, {"is": "deleted"})
    kind = "symlink" if seen.link is not None else "file"
    if seen.content is None and kind == "file":
        kind = "too_large" if seen.too_large else "unreadable"
    return State(
        name,
        seen.content,
        {
            "is": kind,
            "symlink to": None if seen.link is None else subject_of(seen.link),
            "mode": seen.look.mode_text,
            "owner": owner_name(seen.look.uid, seen.look.gid),
        },
    )


def _before(versions: list[Version], asked: str | None) -> str:
    """Return the version before the one asked for."""
    if asked in (None, LIVE):
        return "latest"
    at = versions.index(choose(versions, asked or ""))
    if at + 1 == len(versions):
        raise NotFound(f"{versions[at].id} is the first version of {versions[at].subject}", hint="name one with --from")
    return versions[at + 1].id


def compare_states(before: State, after: State, *, settings: bool) -> list[Line]:
    """Return what is to be said beside the contents, and their difference."""
    facts = [
        Line("note", f"{name}: {before.facts.get(name) or 'none'} → {after.facts.get(name) or 'none'}")
        for name in ("is", "symlink to", "mode", "owner")
        if before.facts.get(name) != after.facts.get(name)
    ]
    return [*facts, *compare(before.content, after.content, names=(before.name, after.name), settings=settings)]
