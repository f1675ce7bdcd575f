"""Where backups are kept: one or more repositories, each a folder or a bucket with its own retention."""

from collections.abc import Mapping
from dataclasses import dataclass

from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.backups.memory import Memory
from reanimate.config import RepositorySettings, Settings
from reanimate.errors import NotFound
from reanimate.storage.stores import open_url, shown_url

__all__ = ["Repository", "named", "open_repositories"]


@dataclass(frozen=True)
class Repository:
    """One place for backups."""

    name: str
    url: str
    """Without credentials; for people."""
    catalog: Catalog
    settings: RepositorySettings


def open_repositories(settings: Settings) -> dict[str, Repository]:
    """Open every repository of the settings by name. The first is the one that backups are taken into.

    Raises:
        ConfigInvalid: a URL is of no known kind, a folder cannot be made, or the signing key cannot be had.
    """
    keyring = Keyring.load_or_create(settings.home, settings.backups)
    opened = {}
    for each in settings.backups.all_repositories(settings.home):
        store = open_url(each.url, each.plain_options())
        opened[each.name] = Repository(
            each.name,
            shown_url(each.url),
            Catalog(store, settings.home / "tmp", keyring, Memory.of(settings.home, each.url)),
            each,
        )
    return opened


def named(repositories: Mapping[str, Repository], name: str | None) -> Repository:
    """Return a repository by name, the first when none is named.

    Raises:
        NotFound: none has that name.
    """
    if name is None:
        return next(iter(repositories.values()))
    if name not in repositories:
        raise NotFound(f"no repository is called {name!r}", hint=f"configured are: {', '.join(repositories)}")
    return repositories[name]
