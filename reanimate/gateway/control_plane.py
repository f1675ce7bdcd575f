"""Asking the control plane for the switches, for when a push does not arrive. Its silence changes nothing."""

import asyncio
import logging
from collections.abc import Callable

import aiohttp

from reanimate.clock import utcnow
from reanimate.errors import ReanimateError
from reanimate.gateway.switchboard import Switchboard

__all__ = ["ControlPlane"]

log = logging.getLogger("reanimate.gateway")

_EVERY_S = 2.0
_TIMEOUT_S = 1.5
_SIGNATURE = "x-reanimate-signature"


class ControlPlane:
    """The other side of the switches, and when it was last heard."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        switchboard: Switchboard,
        *,
        web_url: str,
        control_key: str,
        gateway: str,
        control_url: str,
    ) -> None:
        self._session = session
        self._switchboard = switchboard
        self._url = f"{web_url}/switches"
        self._headers = {"Authorization": f"Bearer {control_key}"}
        self._who = {"gateway": gateway, "control_url": control_url}
        self._time: Callable[[], float] = asyncio.get_running_loop().time
        self._heard_at: float | None = None
        self._silent = False

    def heard(self) -> None:
        """Take note that the control plane has just spoken."""
        self._heard_at = self._time()
        if self._silent:
            self._silent = False
            log.warning("the control plane is heard again")

    @property
    def stale_s(self) -> float | None:
        """Seconds since the control plane was last heard; None if never in this process."""
        return None if self._heard_at is None else round(self._time() - self._heard_at, 1)

    async def follow(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            await self.ask()
            await asyncio.sleep(_EVERY_S)

    async def ask(self, timeout_s: float = _TIMEOUT_S) -> None:
        """Ask once. Whatever goes wrong is logged once, and the switches stay as they are."""
        document = self._switchboard.document
        params = {**self._who, "seq": str(self._switchboard.seq), "ledger": document.ledger if document else ""}
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.get(self._url, params=params, headers=self._headers) as answer,
            ):
                body = await answer.read()
                if answer.status == 200:
                    signature = answer.headers.get(_SIGNATURE, "")
                    await self._switchboard.take(body, {_SIGNATURE: signature}, utcnow())
                elif answer.status != 204:
                    self._lament(f"it answered {answer.status}")
                    return
        except (aiohttp.ClientError, OSError, ReanimateError) as error:
            self._lament(str(error) or type(error).__name__)
        else:
            self.heard()

    def _lament(self, problem: str) -> None:
        if not self._silent:
            self._silent = True
            log.warning("the control plane cannot be asked for switches, those obeyed stay in force: %s", problem)
