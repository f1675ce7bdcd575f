"""Providers that do on demand whatever real ones do on their bad days, fresh for each test."""

from collections.abc import AsyncIterator

import pytest

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
