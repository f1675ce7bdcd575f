"""What parts write: `logs/NAME.log`, one file per part, appended to."""

from pathlib import Path
from typing import IO

__all__ = ["PartLogs"]

_ROTATE_BYTES = 10_000_000


class PartLogs:
    """The log files of a home directory."""

    def __init__(self, home: Path) -> None:
        self._directory = home / "logs"
        self._began: dict[str, int] = {}

    def file(self, name: str) -> Path:
        """Return where part `name` writes."""
        return self._directory / f"{name}.log"

    def open(self, name: str) -> IO[bytes]:
        """Open the log for a start of part `name`; one that has grown large is put aside first."""
        path = self.file(name)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        if path.exists() and path.stat().st_size > _ROTATE_BYTES:
            path.replace(path.with_suffix(".1.log"))
        self._began[name] = path.stat().st_size if path.exists() else 0
        return path.open("ab")

    def says(self, name: str, text: str) -> bool:
        """Say whether `text` is in what the part wrote since it was last started."""
        with self.file(name).open("rb") as log:
            log.seek(self._began.get(name, 0))
            return text.encode() in log.read()

    def last_words(self, name: str) -> str:
        """Return the last line of the log."""
        lines = self.file(name).read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing"
