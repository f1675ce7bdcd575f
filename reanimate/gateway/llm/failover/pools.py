"""The connections to each provider."""

import asyncio

from reanimate.gateway.llm.catalogue import Provider
from reanimate.gateway.llm.transport.pool import Pool

__all__ = ["Pools"]


class Pools:
    """One pool for each provider; a provider whose address changes gets a new one."""

    def __init__(self) -> None:
        self._pools: dict[str, tuple[str, float, Pool]] = {}
        self._left: list[Pool] = []

    def of(self, provider: Provider) -> Pool:
        """Return the pool for a provider as it is in its settings."""
        found = self._pools.get(provider.name)
        if found is not None and found[0] == provider.url and found[1] == provider.connect_timeout_s:
            return found[2]
        if found is not None:
            # What is underway there goes on; its idle connections close by themselves.
            self._left.append(found[2])
        pool = Pool(provider.url, connect_timeout_s=provider.connect_timeout_s)
        self._pools[provider.name] = (provider.url, provider.connect_timeout_s, pool)
        return pool

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(pool.close() for pool in (*self._left, *(found[2] for found in self._pools.values()))))
