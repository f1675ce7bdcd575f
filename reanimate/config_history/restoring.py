"""Put one version back: a file, a symlink, a deletion, or a server's setting. What is there now is kept first.

Undoing is putting back the version before.
"""

import getpass
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reanimate.config_history.differences import Line, compare
from reanimate.config_history.keeping import ConfigHistory
from reanimate.config_history.reading import Seen, read
from reanimate.config_history.replacing import Replacement, prepare_file, prepare_link, prepare_removal
from reanimate.config_history.server_restore import SettingsPlan, apply_settings, plan_restore_of, require_applied
from reanimate.config_history.server_settings import to_content
from reanimate.config_history.states import compare_states, live_state, state_of
from reanimate.config_history.subjects import Setting, is_setting, path_of, subject_of, unescaped
from reanimate.config_history.versions import Author, Version
from reanimate.errors import Busy, NotFound, Refused
from reanimate.vector.server import VectorServer

__all__ = ["Plan", "Restored", "is_in_place", "paths_of", "plan_version", "prepare", "restore_version"]

_WITHOUT_CONTENT = ("unreadable", "too_large")


@dataclass(frozen=True)
class Plan:
    """What putting a version back would do."""

    version: Version
    does: tuple[str, ...]
    """Nothing when it is so already."""
    difference: tuple[Line, ...]
    """From what is there now to the version."""
    cannot: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    settings: SettingsPlan | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "version": self.version.model_dump(mode="json"),
            "does": list(self.does),
            "cannot": list(self.cannot),
            "notes": list(self.notes),
            "difference": [line.text for line in self.difference],
        }


@dataclass(frozen=True)
class Restored:
    """What was done. `before` is the version that undoes it, None when there was nothing before."""

    plan: Plan
    before: Version | None
    after: Version | None


async def plan_version(history: ConfigHistory, version: Version) -> Plan:
    """Say what putting a version back would do. Touches nothing.

    Raises:
        Refused: the version has no content, or is of a setting that no call changes.
        NotFound: its server is not among the targets, or its content is in no manifest.
        Damaged, Unreachable: its content cannot be had, or the server does not answer.
    """
    if version.kind in _WITHOUT_CONTENT:
        raise Refused(f"version {version.id} of {version.subject} has no content: {version.reason}")
    if is_setting(version.subject):
        return await _plan_setting(history, version, await history.content(version))
    difference = compare_states(
        await live_state(history, version.subject), await state_of(history, version), settings=False
    )
    return _plan_file(version, tuple(difference), history.settings.max_file_bytes)


async def restore_version(history: ConfigHistory, version: Version) -> Restored:
    """Put a version back, after keeping what is there now. Safe to repeat after a kill at any line.

    Raises:
        Busy: the file was changed meanwhile; it is left as it is.
        ReanimateError: as `plan_version`, `ConfigHistory.keep` and the writing itself.
    """
    paths = [] if is_setting(version.subject) else paths_of(version.subject)
    await plan_version(history, version)
    kept = await history.keep(also=paths)
    # Planned again: what is there may have changed, and only what was kept may be replaced.
    plan = await plan_version(history, version)
    before = kept.manifest.version(version.subject) if kept.manifest else None
    if not plan.does:
        return Restored(plan, before, before)
    content = await history.content(version)
    if plan.settings is not None:
        server = _server(history, Setting.parse(version.subject))
        await apply_settings(server, plan.settings)
        await require_applied(server, plan.settings, json.loads(content or b"{}"))
    else:
        known = {path: kept.manifest.version(subject_of(str(path))) if kept.manifest else None for path in paths}
        prepare(version, content, known, history.settings.max_file_bytes).commit()
    by = Author(name=getpass.getuser(), source="restore", detail=f"put back version {version.id}")
    subjects = [version.subject, *(subject_of(str(path)) for path in paths)]
    after = await history.keep(also=paths, authors=dict.fromkeys(subjects, by))
    return Restored(plan, before, after.manifest.version(version.subject) if after.manifest else None)


def is_in_place(version: Version, limit: int) -> bool:
    """Say whether a file is as it was in a version, without fetching that."""
    present = read(Path(path_of(version.subject)), limit)
    if version.kind == "deleted":
        return present.look.kind == "missing"
    return not _differs(present, version)


# -- files -------------------------------------------------------------------------------------------------------------


def paths_of(subject: str) -> list[Path]:
    """Return the path, and the file that it leads to when it is a symlink."""
    path = Path(path_of(subject))
    return [path, Path(os.path.realpath(path))] if path.is_symlink() else [path]


def _plan_file(version: Version, difference: tuple[Line, ...], limit: int) -> Plan:
    path = Path(path_of(version.subject))
    present = read(path, limit)
    does, notes = [], []
    if version.kind == "deleted":
        if present.look.kind != "missing":
            does.append(f"delete {version.subject}")
    elif version.kind == "symlink" and _link(present) != version.link:
        does.append(f"make {version.subject} a symlink to {version.link}")
        notes.append("what it leads to stays as it is; put that back by its own name if it differs")
    elif _differs(present, version):
        where = subject_of(os.path.realpath(path)) if version.kind == "symlink" else version.subject
        if version.sha256 is None:
            notes.append(f"{where}: the version led to nothing readable ({version.reason}); it stays as it is")
        else:
            does.append(f"write {version.size} bytes to {where}, mode {version.mode}, owner {version.owner}")
        if version.kind == "file" and present.link is not None:
            notes.append(f"it is a symlink to {_link(present)} now, and becomes a file; what it leads to stays")
        elif present.look.links > 1:
            notes.append(f"the file has {present.look.links} names (hard links); the others keep the present content")
    if does and not path.parent.exists():
        notes.append(f"its folder {path.parent} is gone, and is made again")
    return Plan(version, tuple(does), difference, notes=tuple(notes))


def _differs(present: Seen, version: Version) -> bool:
    now = (present.sha256, present.look.mode_text, present.look.uid, present.look.gid, _link(present))
    return now != (version.sha256, version.mode, version.uid, version.gid, version.link)


def _link(present: Seen) -> str | None:
    return None if present.link is None else subject_of(present.link)


def prepare(version: Version, content: bytes | None, known: Mapping[Path, Version | None], limit: int) -> Replacement:
    """Make ready beside its path what putting a version back needs. `known` are the versions kept just before.

    Raises:
        Refused: what is there now cannot be kept, or this user may not write there.
        Busy: it has changed since it was kept.
        Damaged, ConfigInvalid: it could not be written right.
    """
    path = Path(path_of(version.subject))
    present = read(path, limit)
    relink = version.kind == "symlink" and _link(present) != version.link
    if version.kind == "symlink" and not relink:
        path = Path(os.path.realpath(path))  # the link is right: what it leads to is not
        present = read(path, limit)
    _require_kept(path, present, known.get(path))
    if version.kind == "deleted":
        return prepare_removal(path, present=present.look)
    if relink:
        return prepare_link(path, unescaped(version.link or ""), present=present.look)
    return prepare_file(path, content or b"", version, present=present.look)


def _require_kept(path: Path, present: Seen, kept: Version | None) -> None:
    """See that what is about to be replaced is in the repository.

    Raises:
        Refused: it cannot be kept.
        Busy: it has changed since it was kept.
    """
    if present.look.kind == "missing":
        return
    if present.content is None and present.link is None:
        raise Refused(
            f"restoring {path}: what is there now cannot be kept ({present.reason}), and would be lost",
            hint="move it away first",
        )
    if kept is None or (kept.sha256, kept.link) != (present.sha256, _link(present)):
        raise Busy(
            f"restoring {path}: it was changed while it was being kept, and is left as it is",
            hint="see who writes it, then try again",
        )


# -- settings ----------------------------------------------------------------------------------------------------------


async def _plan_setting(history: ConfigHistory, version: Version, content: bytes | None) -> Plan:
    if content is None:
        raise Refused(
            f"version {version.id} of {version.subject} is its deletion: settings are not deleted from here",
            hint="delete the collection by hand if that is meant",
        )
    setting = Setting.parse(version.subject)
    wanted = json.loads(content)
    planned, live = await plan_restore_of(_server(history, setting), setting, wanted)
    does = [f"change {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in planned.patch.items()]
    does += [f"create the payload index {name!r}: {row['data_type']}" for name, row in planned.indexes.items()]
    does += [f"point the alias {alias!r} to {name!r}" for alias, name in planned.aliases.items()]
    difference = compare(
        to_content(live), to_content(wanted), names=(f"{version.subject} now", version.id), settings=True
    )
    return Plan(version, tuple(does), tuple(difference), planned.cannot, planned.notes, planned)


def _server(history: ConfigHistory, setting: Setting) -> VectorServer:
    if setting.target not in history.servers:
        known = ", ".join(history.servers) or "none"
        raise NotFound(f"no vector target is called {setting.target!r}", hint=f"within reach are: {known}")
    return history.servers[setting.target]
