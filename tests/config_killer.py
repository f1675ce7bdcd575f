"""Puts a version back again and again, each time killed (SIGKILL) at another line, and says how each time ended.

python config_killer.py BASE FOLDER     prints one JSON line: {"killed": n, "old": n, "new": n}

A process forks for each attempt: starting Python anew for each line would take minutes.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from obstore.store import LocalStore

from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.config import BackupSettings, ConfigurationSettings
from reanimate.config_history.keeping import ConfigHistory
from reanimate.config_history.restoring import restore_version

BASE, FOLDER = map(Path, sys.argv[1:])
STORE, HOME, SAVED = BASE / "blobs", BASE / "home", BASE / "saved"
FILE = FOLDER / "a.yaml"
OLD = "old " * 1000
EVERY = {"replacing.py": 1, "restoring.py": 12, "keeping.py": 30, "contents.py": 15, "catalog.py": 120}
"""Of the lines of these files, every so many."""


def history() -> ConfigHistory:
    catalog = Catalog(LocalStore(prefix=STORE), HOME / "tmp", Keyring.load_or_create(HOME, BackupSettings()))
    return ConfigHistory(catalog, ConfigurationSettings(files=(str(FOLDER),)), name="agent", home=HOME)


async def put_back() -> None:
    """Put the first version back."""
    opened = history()
    await restore_version(opened, (await opened.versions(str(FILE)))[-1])


def killed_at(file: str, line: int) -> None:
    """Die when that many lines of a file have run."""
    seen = [0]

    def trace(frame: Any, event: str, argument: Any) -> Any:
        return local if Path(frame.f_code.co_filename).name == file else None

    def local(frame: Any, event: str, argument: Any) -> Any:
        if event == "line":
            seen[0] += 1
            if seen[0] == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return local

    threading.settrace(trace)
    sys.settrace(trace)
    asyncio.run(put_back())


def judge(content: str) -> None:
    asyncio.run(judged(content))


async def judged(content: str) -> None:
    """See that nothing is lost, and that a repetition ends it."""
    if FILE.read_text() == OLD:
        opened = history()
        kept = [await opened.content(version) for version in await opened.versions(str(FILE)) if version.sha256]
        assert content.encode() in kept, "replaced, and not kept"
    await put_back()
    assert FILE.read_text() == OLD
    assert [path.name for path in FOLDER.iterdir()] == [FILE.name], "something was left beside"


def in_child(work: Any, *arguments: Any) -> int:
    """Run in a fork and return how it ended."""
    child = os.fork()
    if child == 0:
        work(*arguments)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def begin() -> None:
    asyncio.run(history().keep())


def fresh() -> None:
    """Have repository and home as they were at first: a history that grows would make the last attempts slow."""
    for folder in (STORE, HOME):
        shutil.rmtree(folder)
        shutil.copytree(SAVED / folder.name, folder)


def main() -> None:
    STORE.mkdir()
    FILE.write_text(OLD)
    assert in_child(begin) == 0
    for folder in (STORE, HOME):
        shutil.copytree(folder, SAVED / folder.name)
    ends = {"killed": 0, "old": 0, "new": 0}
    for file, step in EVERY.items():
        for line in range(1, 100_000, step):
            fresh()
            content = f"{file} {line} " * 100
            FILE.write_text(content)
            ended = in_child(killed_at, file, line)
            if ended == 0:
                break  # it has no more lines
            assert ended == -signal.SIGKILL, ended
            assert FILE.read_text() in (OLD, content), f"torn at line {line} of {file}"
            ends["killed"] += 1
            ends["old" if FILE.read_text() == OLD else "new"] += 1
            assert in_child(judge, content) == 0, f"after line {line} of {file}"
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
