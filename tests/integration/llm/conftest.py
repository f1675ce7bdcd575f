"""Providers that do on demand whatever real ones do on their bad days, fresh for each test."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from quota_rig import ControlPlane, control_plane
from sdk_rig import SdkRig, sdk_rig

from reanimate.db.embedded import EmbeddedPostgres, create_database
from reanimate.demo.provider import Provider


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """One provider, in this process."""
    async with Provider("main") as running:
        yield running


@pytest.fixture
async def providers() -> AsyncIterator[tuple[Provider, Provider]]:
    """Two providers that give the same answers: the main one and the one to fall back to."""
    async with Provider("main") as main, Provider("backup") as backup:
        yield main, backup


@pytest.fixture(scope="module")
async def vendors_clients(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SdkRig]:
    async with sdk_rig(tmp_path_factory.mktemp("sdk")) as running:
        yield running


@pytest.fixture
def rig(vendors_clients: SdkRig) -> SdkRig:
    """The vendors' clients before a gateway, with providers that are well. Other files have rigs of their own."""
    vendors_clients.heal()
    return vendors_clients


@pytest.fixture(scope="session")
def quota_control(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: EmbeddedPostgres,
    migrated_template: str,
    free_port: Callable[[], int],
) -> Iterator[ControlPlane]:
    """A web process on a record of its own, that tests of quotas share, each with quotas of its own name."""
    create_database(postgres.url("postgres"), "quotas", template=migrated_template)
    with control_plane(tmp_path_factory.mktemp("quota-web"), postgres.url("quotas"), free_port()) as running:
        yield running
