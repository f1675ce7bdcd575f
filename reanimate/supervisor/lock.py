"""One supervisor per home directory: a lock that the kernel releases when its holder ends, however it ends."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from reanimate.errors import Busy, ConfigInvalid

__all__ = ["HomeLock", "holder", "keeper_file", "make_home", "wait_for_keeper", "wait_until_ended", "wait_until_free"]


def _file(home: Path) -> Path:
    return home / "run" / "lock"


def keeper_file(home: Path) -> Path:
    """The lock that the keeper holds for as long as parts of a killed supervisor may still be alive."""
    return home / "run" / "keeper.lock"


def make_home(home: Path) -> None:
    """Make the home directory unless it is there. Others may not look into it.

    Raises:
        ConfigInvalid: it cannot be made.
    """
    if home.exists():
        return
    try:
        home.mkdir(parents=True)
        # Root's database may run as another user, which must be able to pass through.
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise _not_writable(home, error) from None


def _not_writable(home: Path, error: OSError) -> ConfigInvalid:
    hint = "give yourself the right to, or set REANIMATE_HOME to another directory"
    return ConfigInvalid(f"cannot write in the home directory {home}: {error.strerror}", hint=hint)


class HomeLock:
    """Held by `reanimate up` for as long as it runs."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            Busy: another `up` runs on this home directory.
            ConfigInvalid: the directory cannot be written.
        """
        path = _file(self._home)
        make_home(self._home)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _not_writable(self._home, error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode().strip() or "?"
            os.close(descriptor)
            raise Busy(
                f"reanimate is already running in {self._home} as pid {pid}", hint="`reanimate down` stops it"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; safe to call twice."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "HomeLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder(home: Path) -> int | None:
    """Return the pid of the `up` that runs on this home directory, or None."""
    if not _is_locked(_file(home)):
        return None
    text = _file(home).read_text().strip()
    return int(text) if text.isdigit() else None


def wait_until_free(home: Path, timeout_s: float) -> bool:
    """Wait until no `up` runs on this home directory; say whether that is so."""
    return _until(lambda: holder(home) is None, timeout_s)


def wait_until_ended(pid: int, timeout_s: float) -> bool:
    """Wait until process `pid` has ended; say whether it has."""

    def ended() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    return _until(ended, timeout_s)


def wait_for_keeper(home: Path, timeout_s: float = 10.0) -> bool:
    """Wait until the keeper of an earlier supervisor has ended; say whether it has."""
    return _until(lambda: not _is_locked(keeper_file(home)), timeout_s)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _until(holds: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
