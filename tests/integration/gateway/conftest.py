"""Two targets and a gateway before them, fresh for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_process import Gateway, gateway_for
from vector_target import VectorTarget, running


@pytest.fixture
async def targets() -> AsyncIterator[tuple[VectorTarget, VectorTarget]]:
    async with running(VectorTarget("primary"), VectorTarget("replica")) as (primary, replica):
        yield primary, replica


@pytest.fixture
def primary(targets: tuple[VectorTarget, VectorTarget]) -> VectorTarget:
    return targets[0]


@pytest.fixture
def replica(targets: tuple[VectorTarget, VectorTarget]) -> VectorTarget:
    return targets[1]


@pytest.fixture
async def gateway(tmp_path: Path, targets: tuple[VectorTarget, VectorTarget]) -> AsyncIterator[Gateway]:
    async with gateway_for(tmp_path, *targets) as running_gateway:
        yield running_gateway
