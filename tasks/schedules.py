"""The schedules of prefect.yaml, fitted to an installation: what Prefect is given, and what slots are told from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from reanimate.config import Settings
from reanimate.errors import ConfigInvalid
from reanimate.protection.schedules import Schedule, every_minutes, is_steady

__all__ = ["ROOT", "document", "fitted_schedule", "schedules"]

ROOT = Path(__file__).resolve().parent.parent
"""The directory of prefect.yaml, flows/ and tasks/."""

PARTIAL = "partial"
"""The schedule whose pace is a setting."""


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


def fitted_schedule(entry: Mapping[str, Any], settings: Settings) -> dict[str, Any] | None:
    """Return a schedule as this installation wants it: in its zone, at its pace; None when it wants none.

    What comes every few minutes is given to Prefect in UTC: in other zones it leaves out the hour that occurs twice.

    Raises:
        ConfigInvalid: the pace does not cut an hour or a day into equal parts.
    """
    cron = entry["cron"]
    if entry.get("slug") == PARTIAL:
        if not settings.backups.partial_every_min:
            return None
        cron = every_minutes(settings.backups.partial_every_min)
    return {**entry, "cron": cron, "timezone": "UTC" if is_steady(cron) else settings.backups.timezone}


def schedules(settings: Settings, root: Path = ROOT) -> dict[str, Schedule]:
    """Return every schedule of this installation by its name.

    Raises:
        ConfigInvalid: see `document` and `fitted_schedule`.
    """
    found = {}
    for deployment in document(root)["deployments"]:
        for entry in deployment.get("schedules", ()):
            if (fitted := fitted_schedule(entry, settings)) is not None:
                found[fitted["slug"]] = Schedule(
                    name=fitted["slug"],
                    cron=fitted["cron"],
                    zone=fitted["timezone"],
                    entrypoint=deployment["entrypoint"],
                    deployment=deployment["name"],
                    parameters=dict(fitted.get("parameters", {})),
                )
    return found
