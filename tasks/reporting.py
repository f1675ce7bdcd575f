"""Progress of long work in a run's log."""

import time
from collections.abc import Callable

from prefect import get_run_logger

__all__ = ["to_the_log"]

_REPORT_S = 2.0


def to_the_log(what: str) -> Callable[[str, int, int], None]:
    """Return a reporter that writes to the run's log every two seconds at most, and at the end of each stage."""
    logger, last = get_run_logger(), [0.0]

    def report(stage: str, done: int, total: int) -> None:
        if done == total or time.monotonic() - last[0] > _REPORT_S:
            last[0] = time.monotonic()
            logger.info("%s: %s %d of %d", what, stage, done, total)

    return report
