"""The keeper: a small process that outlives a killed supervisor just long enough to end what it left.

It is told the process groups over its standard input, `+GROUP SIGNAL` and `-GROUP`, a line each. When the pipe closes
without `bye`, the supervisor died: every group gets its signal, then SIGKILL, and so does every process that carries
the supervisor's mark.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from reanimate.supervisor.lock import keeper_file
from reanimate.supervisor.strays import MARK, end_strays

__all__ = ["Keeper", "end_groups", "group_alive"]

_GRACE_S = 3.0


class Keeper:
    """The supervisor's end of the pipe."""

    def __init__(self, home: Path, mark: str) -> None:
        self._home = home
        self._mark = mark
        self._groups: dict[int, signal.Signals] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The keeper's process id, None before `start`."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the keeper, and tell it what is running already."""
        environment = {name: value for name, value in os.environ.items() if name != MARK}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "reanimate.supervisor.keeper", str(self._home), self._mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C at the terminal is the supervisor's to handle
            env=environment,
        )
        for group, number in self._groups.items():
            self._say(f"+{group} {int(number)}")

    def watch(self, group: int, number: signal.Signals) -> None:
        """Have `group` ended with `number` if the supervisor dies."""
        self._groups[group] = number
        self._say(f"+{group} {int(number)}")

    def forget(self, group: int) -> None:
        """The group is gone; its number may be somebody else's soon."""
        if self._groups.pop(group, None) is not None:
            self._say(f"-{group}")

    def ensure_alive(self) -> bool:
        """Start the keeper again if it died; say whether it had."""
        if self._process is not None and self._process.poll() is not None:
            self.start()
            return True
        return False

    def dismiss(self) -> None:
        """All is ended properly: the keeper may go without doing anything."""
        if self._process is None:
            return
        self._say("bye")
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _say(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:  # it was killed; `ensure_alive` starts another, which is told everything
            return


def group_alive(group: int) -> bool:
    """Say whether a process group has a member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def end_groups(groups: dict[int, int], grace_s: float) -> None:
    """Signal every group, wait up to `grace_s` seconds until all are gone, then SIGKILL the rest."""
    for group, number in groups.items():
        _signal_group(group, number)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and any(group_alive(group) for group in groups):
        time.sleep(0.05)
    for group in groups:
        _signal_group(group, signal.SIGKILL)


def _listen(lines: IO[str]) -> dict[int, int] | None:
    """Return the groups to end when the pipe closed, or None after `bye`."""
    groups: dict[int, int] = {}
    for line in lines:
        word = line.strip()
        if word == "bye":
            return None
        if word.startswith("+"):
            group, number = word[1:].split()
            groups[int(group)] = int(number)
        elif word.startswith("-"):
            groups.pop(int(word[1:]), None)
    return groups


def main(home: Path, mark: str) -> None:
    """Run the keeper until the supervisor says goodbye or dies."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    descriptor = os.open(keeper_file(home), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # a new supervisor waits until this is free again
    groups = _listen(sys.stdin)
    if groups is not None:
        end_groups(groups, _GRACE_S)
        end_strays(mark)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
