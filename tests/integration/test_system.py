"""`reanimate up | down | status | doctor`: the whole system, as a person starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(400)

SETTINGS = """
[database]
port = 0
[web]
port = 0
[prefect]
port = 0
[gateway]
port = 0
control_port = 0
[watch]
port = 0
[[vector.targets]]
name = "primary"
role = "primary"
[[vector.targets]]
name = "replica"
role = "replica"
"""


class Machine:
    """A home directory, and the command line on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {**os.environ, "REANIMATE_HOME": str(home), "COLUMNS": "200"}

    def reanimate(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "reanimate.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        """Return what `status --json` says."""
        view: dict[str, Any] = json.loads(self.reanimate("status", "--json").stdout)
        return view

    def part(self, name: str) -> dict[str, Any]:
        """Return one part of the status."""
        return next(part for part in self.status()["parts"] if part["name"] == name)

    def processes(self) -> set[int]:
        """Return the pids of live processes (zombies are not) that belong to this home directory."""
        wanted, found = f"REANIMATE_HOME={self.home}".encode(), set()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                ours = wanted in (entry / "environ").read_bytes().split(b"\0")
                ours = ours or (entry / "cwd").readlink() == self.home / "postgres"
                if ours and "\nState:\tZ" not in (entry / "status").read_text():
                    found.add(int(entry.name))
            except OSError:
                continue
        return found


def _wait_until(holds: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A home directory with the whole system up."""
    home = tmp_path_factory.mktemp("system") / "home"
    home.mkdir()
    (home / "reanimate.toml").write_text(SETTINGS)
    machine = Machine(home)
    started = machine.reanimate("up", "--detach", "--json", timeout_s=300)
    assert started.returncode == 0, started.stderr
    yield machine
    machine.reanimate("down")


def test_up__everything_answers(machine: Machine) -> None:
    """After `up --detach` every part is ready and answers, the record too, and nothing was restarted."""
    view = machine.status()
    assert view["ready"]
    assert {part["name"] for part in view["parts"]} >= {
        "postgres", "prefect", "web", "responder", "watch", "gateway", "vector-primary", "vector-replica",
        "vector-offline", "worker",
    }  # fmt: skip
    assert [part for part in view["parts"] if part["healthy"] is False or part["restarts"]] == []
    assert {part["state"] for part in view["parts"]} == {"ready", "done"}
    assert view["record"]["incidents"] == []


def test_up__a_second_one_is_refused(machine: Machine) -> None:
    """A second `up` on the same directory is one line with the pid of the first."""
    pid = machine.status()["pid"]
    for arguments in (("up",), ("up", "--detach")):
        second = machine.reanimate(*arguments)
        assert second.returncode == 1
        assert second.stderr.strip().splitlines() == [
            f"error: reanimate is already running in {machine.home} as pid {pid}; `reanimate down` stops it"
        ]


def test_secrets__are_nowhere(machine: Machine) -> None:
    """No secret of this installation is in a log, in an argument, or in what the commands print."""
    secrets = list(json.loads((machine.home / "secrets.json").read_text()).values())
    printed = machine.reanimate("status").stdout + machine.reanimate("doctor", "--json").stdout
    logs = [*(machine.home / "logs").iterdir(), *(machine.home / "run").iterdir()]
    text = printed + "".join(path.read_text(errors="replace") for path in logs)
    for pid in machine.processes():
        text += (Path("/proc") / str(pid) / "cmdline").read_text(errors="replace")
    assert [secret for secret in secrets if secret in text] == []


def test_doctor__finds_nothing_wrong(machine: Machine) -> None:
    """The doctor asks every running part, and nothing fails on a fresh system."""
    answer = machine.reanimate("doctor", "--json")
    findings = json.loads(answer.stdout)
    assert [finding for finding in findings if finding["level"] == "fail"] == []
    about = {finding["about"] for finding in findings}
    assert about >= {
        "database",
        "database rights",
        "prefect",
        "vector primary",
        "vector primary rights",
        "repository local",
    }


@pytest.mark.parametrize("name", ["web", "vector-replica", "postgres"])
def test_killed_part__comes_back(machine: Machine, name: str) -> None:
    """A part that is killed is started again within seconds, answers again, and the restart is recorded."""
    before = machine.part(name)
    os.kill(before["pid"], signal.SIGKILL)

    def back() -> bool:
        now = machine.part(name)
        return bool(now["restarts"] == before["restarts"] + 1 and now["healthy"])

    _wait_until(back, 60)
    assert machine.part(name)["last_exit"] == "SIGKILL"


def test_sigkill_of_up__leaves_nothing(machine: Machine) -> None:
    """Within ten seconds of a SIGKILL of `up` no process of this home is left."""
    os.kill(machine.status()["pid"], signal.SIGKILL)
    _wait_until(lambda: not machine.processes(), 10)
    down = machine.reanimate("down")
    assert (down.returncode, down.stderr.strip()) == (0, f"nothing is running in {machine.home}")
    assert machine.reanimate("status").returncode == 1


def test_up_after_a_kill__and_ctrl_c(machine: Machine) -> None:
    """After a SIGKILL `up` starts again at the same addresses; Ctrl-C ends all within ten seconds, nothing is left."""
    addresses = json.loads((machine.home / "run" / "addresses.json").read_text())
    up = subprocess.Popen(
        [sys.executable, "-m", "reanimate.cli", "up", "--json"],
        env=machine.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert up.stdout is not None
    with up.stdout:
        told = ""
        while not told.endswith("\n}\n"):
            line = up.stdout.readline()
            assert line, "up ended"
            told += line
        assert json.loads(told)["addresses"] == addresses
        began = time.monotonic()
        up.send_signal(signal.SIGINT)
        assert up.wait(15) == 0
    assert time.monotonic() - began < 10
    assert machine.processes() == set()


def test_taken_port__is_one_line(tmp_path: Path) -> None:
    """A taken port ends `up` before anything is started, in one line with port, setting and holder."""
    machine = Machine(tmp_path / "home")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        machine.environment |= {"REANIMATE_WEB__PORT": str(port), "REANIMATE_GATEWAY__PORT": "0"}
        up = machine.reanimate("up")
    assert up.returncode == 1
    (line,) = up.stderr.strip().splitlines()
    assert line.startswith(f"error: port {port} (web.port) cannot be used: Address already in use, by ")
    assert not (tmp_path / "home" / "postgres").exists()


def test_home_that_cannot_be_written__is_one_line() -> None:
    """A directory where nothing can be written is one line each for up, up --detach and init."""
    machine = Machine(Path("/proc/none"))
    for arguments in (("up",), ("up", "--detach"), ("init",)):
        answer = machine.reanimate(*arguments)
        assert answer.returncode == 1
        (line,) = answer.stderr.strip().splitlines()
        assert line.startswith("error: cannot write in the home directory /proc/none: ")


def test_init__writes_once(tmp_path: Path) -> None:
    """`init` writes settings and secrets for their owner only, and never overwrites; --force keeps the old file."""
    machine = Machine(tmp_path / "home")
    assert machine.reanimate("init").returncode == 0
    file = tmp_path / "home" / "reanimate.toml"
    file.write_text("# mine\n")
    again = machine.reanimate("init")
    assert again.returncode == 1
    assert file.read_text() == "# mine\n"
    assert machine.reanimate("init", "--force").returncode == 0
    assert (tmp_path / "home" / "reanimate.toml.old").read_text() == "# mine\n"
    for path in (file, tmp_path / "home" / "secrets.json"):
        assert path.stat().st_mode & 0o077 == 0
