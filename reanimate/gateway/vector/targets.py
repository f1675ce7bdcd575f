"""The servers behind the gateway, and the key each is spoken to with."""

from collections.abc import Mapping
from dataclasses import dataclass

from reanimate.config import VectorSettings
from reanimate.errors import ConfigInvalid

__all__ = ["Target", "targets_from"]


@dataclass(frozen=True)
class Target:
    """One server. `url` has no trailing slash; `api_key` is the one of the settings, if any."""

    name: str
    url: str
    is_primary: bool
    api_key: str | None = None
    is_offline: bool = False
    """Holds copies of backups: asked when nobody else can answer."""

    def __repr__(self) -> str:
        return f"Target({self.name!r}, {self.url!r})"


def targets_from(settings: VectorSettings, urls: Mapping[str, str]) -> tuple[Target, ...]:
    """Return the configured targets, the primary first, offline standbys last.

    Raises:
        ConfigInvalid: nobody knows where a target listens. An offline standby is left out then: nobody asked for it.
    """
    targets = []
    offline = [item for item in settings.offline_standbys if item.name in urls or item.url]
    for item in (*settings.serving, *offline):
        url = urls.get(item.name) or item.url or (f"http://127.0.0.1:{item.port}" if item.port else None)
        if url is None:
            raise ConfigInvalid(
                f"the gateway does not know where vector target {item.name!r} listens",
                hint="give it a url or a port in the settings, or run `reanimate up`",
            )
        key = item.api_key.get_secret_value() if item.api_key else None
        role = item.role
        targets.append(Target(item.name, url.rstrip("/"), role == "primary", key, is_offline=role == "offline"))
    return tuple(targets)
