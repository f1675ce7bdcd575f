"""Ask the kernel to signal a child when its parent is gone (Linux; elsewhere the keeper alone does it)."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

__all__ = ["die_with_parent"]

_PR_SET_PDEATHSIG = 1
# Loaded in the parent: between fork and exec a child of a process with threads must not load anything.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` after which the child gets signal `number` when the parent ends, however it ends.

    The kernel means the *thread* that spawned the child: spawn from the main thread of a process that stays.
    """
    parent = os.getpid()

    def ask() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(number))
            if os.getppid() != parent:  # it died before the kernel was asked
                os._exit(1)

    return ask
