"""Which findings of a data probe mean loss. Pure. Documents come and go by right; whole collections do not.

The probe tells everything that is not as it was backed up; an alarm is raised only for what no agent does by right.
"""

import re

from reanimate.backups.probe import DataReport, Finding
from reanimate.watch.data_judge import Loss

__all__ = ["losses_in"]

MOST_SENTINELS_MISSING = 0.2
TELLING = {
    "primary": frozenset({"collection", "status", "vectors", "count", "sentinels", "query"}),
    # A replica holds an older backup, seeded under another name: only what every copy must have is held against it.
    "replica": frozenset({"collection", "status", "count", "sentinels"}),
}


def losses_in(report: DataReport, role: str) -> tuple[Loss, ...]:
    """Return the findings that mean loss on a target of that role; empty when the data is really there."""
    return tuple(
        Loss(finding.check, finding.expected, finding.found, finding.detail)
        for finding in report.findings
        if not finding.ok and finding.check in TELLING[role] and not is_change_by_right(finding)
    )


def is_change_by_right(finding: Finding) -> bool:
    """Sentinels that were rewritten, and a few that are gone, are the agent's own doing."""
    if finding.check != "sentinels":
        return False
    counted = [int(number) for number in re.findall(r"(\d+) (?:the same|changed|missing)", finding.found)]
    if len(counted) != 3:
        return False
    return counted[2] <= MOST_SENTINELS_MISSING * sum(counted)
