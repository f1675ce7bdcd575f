"""What is deployed, as `prefect.yaml` says: the one list that deploying, claiming and testing go by."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from reanimate.errors import ConfigInvalid

__all__ = ["ROOT", "Deployment", "deployments", "document"]

ROOT = Path(__file__).resolve().parent.parent
"""The directory of prefect.yaml, flows/ and tasks/."""


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


def document(root: Path = ROOT) -> dict[str, Any]:
    """Return prefect.yaml as it stands.

    Raises:
        ConfigInvalid: it is not there, or it is not YAML.
    """
    path = root / "prefect.yaml"
    try:
        read: dict[str, Any] = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}", hint="run from a checkout") from error
    except yaml.YAMLError as error:
        raise ConfigInvalid(f"{path} is not YAML: {error}") from error
    return read


def deployments(root: Path = ROOT) -> tuple[Deployment, ...]:
    """Return every deployment of prefect.yaml, in its order.

    Raises:
        ConfigInvalid: see `document`.
    """
    return tuple(Deployment(item["name"], item["entrypoint"]) for item in document(root)["deployments"])
