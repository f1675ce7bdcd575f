"""The switches that are obeyed: taken from signed documents, in sequence, and kept on disk over restarts."""

import asyncio
import base64
import hmac
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from reanimate.errors import InputInvalid
from reanimate.files import write_atomically
from reanimate.switches.document import Claim, SwitchDocument, read_document, sign

__all__ = ["Switchboard"]

log = logging.getLogger("reanimate.gateway")

Listener = Callable[[tuple[Claim, ...]], None]

_TOLD_WITHIN_S = 0.001
"""The calls that a document ends are told by then, if there are not very many."""


class Switchboard:
    """What holds now. Each plane listens, and works out for itself what the claims mean to it."""

    def __init__(self, file: Path, key: str, listeners: tuple[Listener, ...]) -> None:
        self._file = file
        self._key = key
        self._listeners = listeners
        self._lock = asyncio.Lock()
        self._body = b""
        self.on_obeyed: list[Callable[[bytes], None]] = []
        """Who is told of each document that is obeyed."""
        self.document: SwitchDocument | None = None

    @property
    def seq(self) -> int:
        """The number of the document obeyed; 0 when there was none yet."""
        return self.document.seq if self.document is not None else 0

    async def take(self, body: bytes, headers: Mapping[str, str], now: datetime) -> SwitchDocument:
        """Obey a document if it is newer than the one obeyed, and keep it; return the one obeyed afterwards.

        Raises:
            Refused: the signature is missing or wrong, or the document has expired.
            InputInvalid: it is signed, but not a document.
        """
        document = read_document(body, headers, self._key, now)
        if document.is_newer_than(self.document):
            self._obey(document, body)
            # First of all the calls that it ends are told so, in the loop's next turn: neither a line in the log nor a
            # thread that wants the interpreter is to be in their way.
            await asyncio.sleep(_TOLD_WITHIN_S)
            _log(document)
            async with self._lock:
                await asyncio.to_thread(self._keep)
        assert self.document is not None
        return self.document

    def follow(self, body: bytes) -> None:
        """Obey what another process of this gateway obeys, which has looked at its signature and keeps it."""
        document = SwitchDocument.decode(body)
        if document.is_newer_than(self.document):
            self._obey(document, body)
            asyncio.get_running_loop().call_later(_TOLD_WITHIN_S, _log, document)

    def load(self) -> None:
        """Obey what was kept. It may have expired since: the last known switches are better than none."""
        try:
            stored = json.loads(self._file.read_bytes())
            body = base64.b64decode(stored["body"])
            if not hmac.compare_digest(stored["signature"].encode(), sign(body, self._key).encode()):
                raise InputInvalid("its signature is wrong")
            document = SwitchDocument.decode(body)
            self._obey(document, body)
            _log(document)
        except FileNotFoundError:
            return
        except (InputInvalid, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            log.error("%s is not usable, all switches are at their default until told: %s", self._file, error)  # noqa: TRY400

    def _obey(self, document: SwitchDocument, body: bytes) -> None:
        claims = document.switches
        for listener in self._listeners:
            listener(claims)
        self._body = body
        self.document = document
        for tell in self.on_obeyed:
            tell(body)

    def _keep(self) -> None:
        body = self._body
        stored = {"body": base64.b64encode(body).decode(), "signature": sign(body, self._key)}
        try:
            write_atomically(self._file, json.dumps(stored).encode())
        except OSError as error:
            # Obeyed all the same: not to obey a containment because a disk is full would be worse.
            log.error("cannot keep the switches in %s: %s", self._file, error)  # noqa: TRY400


def _log(document: SwitchDocument) -> None:
    told = ", ".join(f"{c.switch} {c.scope} = {c.value}" for c in document.switches) or "all at their default"
    log.warning("obeying switches %d of ledger %s: %s", document.seq, document.ledger, told)
