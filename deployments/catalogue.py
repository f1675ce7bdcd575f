"""What is deployed, as `prefect.yaml` says: the one list that deploying, claiming and testing go by."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tasks.schedules import ROOT, document

__all__ = ["ROOT", "Deployment", "deployments", "document"]


@dataclass(frozen=True)
class Deployment:
    """One entry of prefect.yaml."""

    name: str
    entrypoint: str
    """module:attribute."""

    def flow(self) -> Any:
        """Import and return the flow."""
        module, _, attribute = self.entrypoint.partition(":")
        return getattr(import_module(module), attribute)

    @property
    def full_name(self) -> str:
        """Return Prefect's name for it, flow/deployment; this imports the flow."""
        return f"{self.flow().name}/{self.name}"


def deployments(root: Path = ROOT) -> tuple[Deployment, ...]:
    """Return every deployment of prefect.yaml, in its order.

    Raises:
        ConfigInvalid: see `document`.
    """
    return tuple(Deployment(item["name"], item["entrypoint"]) for item in document(root)["deployments"])
