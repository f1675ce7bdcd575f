"""Object stores to test against: each a URL with options, on a bucket or a folder of its own."""

import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

__all__ = ["StoreAt", "localbucket", "make_bucket", "ministack", "program"]

_BESIDE = Path(__file__).parent.parent / ".stores" / "bin"
_CREDENTIALS = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}


@dataclass(frozen=True)
class StoreAt:
    """Where a store is, as settings would say it."""

    url: str
    options: dict[str, str] = field(default_factory=dict)

    def below(self, folder: str) -> "StoreAt":
        """Return a place of its own in the same store."""
        return StoreAt(f"{self.url.rstrip('/')}/{folder}", self.options)


def program(name: str) -> str:
    """Return the path of a server that `scripts/test` installs; without it skip, or with CI=true fail."""
    if path := shutil.which(name, path=f"{_BESIDE}{os.pathsep}{os.environ.get('PATH', '')}"):
        return path
    missing = f"{name} is not installed; `scripts/test` installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@contextmanager
def ministack(port: int, home: Path) -> Iterator[str]:
    """Run ministack: in memory, with S3's rules for conditions, checksums, versions and locks. Yields its URL."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "HOME": str(home)}
    with _running([program("ministack")], port, environment, home) as url:
        yield url


@contextmanager
def localbucket(port: int, home: Path) -> Iterator[str]:
    """Run localbucket: objects as files on disk, fit for large ones. Yields its URL."""
    (home / "data").mkdir(parents=True, exist_ok=True)
    command = [program("localbucket"), "--port", str(port), str(home / "data")]
    with _running(command, port, dict(os.environ), home) as url:
        yield url


@contextmanager
def _running(command: list[str], port: int, environment: dict[str, str], home: Path) -> Iterator[str]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log)
    try:
        _await_port(port, process, home / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"no server on port {port}: {log.read_text()[-2000:]}")


def make_bucket(server: str, *, locked_days: int = 0) -> StoreAt:
    """Make a bucket on one of the servers above, which look at no signature; locked: with a default retention."""
    name = f"b-{secrets.token_hex(6)}"
    _put(f"{server}/{name}", b"", {"x-amz-bucket-object-lock-enabled": "true"} if locked_days else {})
    if locked_days:
        rule = f"<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>{locked_days}</Days></DefaultRetention></Rule>"
        lock = f"<ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}"
        _put(f"{server}/{name}?object-lock", f"<ObjectLockConfiguration>{lock}</ObjectLockConfiguration>".encode(), {})
    return StoreAt(f"s3://{name}/some/prefix", {"endpoint": server, "allow_http": "true", **_CREDENTIALS})


def _put(url: str, content: bytes, headers: dict[str, str]) -> None:
    request = urllib.request.Request(url, method="PUT", data=content, headers=headers)
    with urllib.request.urlopen(request, timeout=10):
        pass
