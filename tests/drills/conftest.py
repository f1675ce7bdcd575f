"""One whole system for all drills that need one; each drill leaves it recovered."""

from collections.abc import AsyncIterator

import pytest
from running_system import System, running


@pytest.fixture(scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """A system that was started by `reanimate up`, its knowledge base loaded, backed up and copied to the replica."""
    async with running(tmp_path_factory.mktemp("drill") / "home") as started:
        yield started
