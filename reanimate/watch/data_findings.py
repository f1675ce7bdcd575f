"""What a data probe found, as far as it means loss, in the words of the judge."""

from reanimate.backups.probe import DataReport, losses
from reanimate.watch.data_judge import Loss

__all__ = ["losses_in"]


def losses_in(report: DataReport, role: str) -> tuple[Loss, ...]:
    """Return what is lost on a target of that role; empty when the data is really there."""
    return tuple(
        Loss(finding.check, finding.expected, finding.found, finding.detail) for finding in losses(report, role)
    )
