"""Deliveries on disk, for as long as Postgres does not answer: one file each, named by time, read back in order."""

import base64
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from reanimate.alerts.model import Arrival, digest
from reanimate.files import write_atomically

__all__ = ["Spool"]

log = logging.getLogger(__name__)


class Spool:
    """A directory of arrivals. Every method blocks on the disk; call them from a thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, arrival: Arrival) -> None:
        """Keep `arrival`; it survives a crash of the machine once this returns.

        Raises:
            OSError: the directory cannot be written, or the disk is full.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        moment = f"{arrival.received_at.timestamp():017.6f}"
        name = f"{moment}-{digest(arrival.source, arrival.delivery_key)[:16]}.json"
        write_atomically(self.directory / name, _encoded(arrival), mode=0o600)

    def waiting(self) -> list[Path]:
        """Return the files there are, oldest arrival first; an unreadable directory counts as empty."""
        try:
            return sorted(path for path in self.directory.glob("*.json") if not path.name.startswith("."))
        except OSError:
            return []

    def read(self) -> Iterator[tuple[Path, Arrival]]:
        """Yield what waits, oldest first. A file that cannot be read is set aside, so that the others can pass."""
        for path in self.waiting():
            try:
                yield path, _decoded(path.read_bytes())
            except (ValueError, KeyError, TypeError) as error:
                self.set_aside(path, f"it is not a spooled delivery: {error}")
            except FileNotFoundError:
                continue

    def set_aside(self, path: Path, why: str) -> None:
        """Move a file that can never be stored to `damaged/`, where a person finds it."""
        damaged = self.directory / "damaged"
        damaged.mkdir(exist_ok=True, mode=0o700)
        path.replace(damaged / path.name)
        log.error("a spooled delivery cannot be stored and was set aside in %s: %s", damaged / path.name, why)

    def remove(self, path: Path) -> None:
        """Forget a delivery that is in the database now."""
        path.unlink(missing_ok=True)


def _encoded(arrival: Arrival) -> bytes:
    return json.dumps(
        {
            "source": arrival.source,
            "delivery_key": arrival.delivery_key,
            "received_at": arrival.received_at.isoformat(),
            "content_type": arrival.content_type,
            "headers": dict(arrival.headers),
            "body": base64.b64encode(arrival.body).decode(),
            "state": arrival.state,
            "error": arrival.error,
        }
    ).encode()


def _decoded(content: bytes) -> Arrival:
    raw = json.loads(content)
    return Arrival(
        source=str(raw["source"]),
        delivery_key=str(raw["delivery_key"]),
        received_at=datetime.fromisoformat(raw["received_at"]),
        content_type=str(raw["content_type"]),
        headers={str(name): str(value) for name, value in raw["headers"].items()},
        body=base64.b64decode(raw["body"], validate=True),
        state=str(raw["state"]),
        error=raw["error"],
    )
