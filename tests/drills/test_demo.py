"""The demo as a stranger runs it: all disasters end well, figures on standard output, nothing is left running."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running_system import processes_of

from reanimate.supervisor.journal import read_journal, summarize

pytestmark = pytest.mark.timeout(600)

INCIDENT = {"fault", "state", "detect_s", "contain_s", "recover_s", "rto_s"}
AGENT = {"asked", "answered", "degraded", "failed", "slowest_s"}
STREAMS = {
    "asked", "whole", "cut", "wrong", "lost", "continued", "degraded", "slowest_first_s", "slowest_gap_s",
}  # fmt: skip


@contextmanager
def _demo(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the demo for the block, in a home directory of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "reanimate.demo", *arguments],
        env={**os.environ, "REANIMATE_HOME": str(home), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        with process:
            yield process
    finally:
        process.kill()


def test_demo__three_disasters_end_well(tmp_path: Path) -> None:
    """Exit code 0, all recovered, nothing lost, cut or wrong; figures on standard output, all else beside it."""
    home = tmp_path / "home"
    with _demo(home, "--json") as process:
        said, progress = process.communicate(timeout=500)
    assert process.returncode == 0, progress[-6000:]
    figures = json.loads(said)
    assert set(figures) == {"incidents", "agent", "streams"}
    assert [set(incident) for incident in figures["incidents"]] == [INCIDENT] * 3
    assert (set(figures["agent"]), set(figures["streams"])) == (AGENT, STREAMS)
    faults = [(incident["fault"], incident["state"]) for incident in figures["incidents"]]
    assert faults == [
        ("vector_database_down", "recovered"),
        ("knowledge_base_deleted", "recovered"),
        ("llm_api_unavailable", "recovered"),
    ]
    for incident in figures["incidents"]:
        assert 0 < incident["contain_s"] < incident["recover_s"] < incident["rto_s"], incident
        assert 0 < incident["detect_s"] < 30, incident
    agent = figures["agent"]
    assert (agent["failed"], agent["asked"]) == (0, agent["answered"]), progress[-6000:]
    assert 0 < agent["degraded"] < agent["asked"]
    assert 0 < agent["slowest_s"] < 10
    streams = figures["streams"]
    assert streams["asked"] == streams["whole"] > 50, progress[-6000:]
    assert streams["cut"] == streams["wrong"] == streams["lost"] == 0
    assert streams["continued"] > 0
    assert 0 < streams["slowest_first_s"] < 3
    assert 0 < streams["slowest_gap_s"] < 3
    assert processes_of(home) == {}
    _told_the_story(home, progress)


def _told_the_story(home: Path, progress: str) -> None:
    """Progress names every step of the story, prints the postmortems and the final table, and where they lie."""
    for words in (
        "SIGKILL",
        "DELETE",
        "silence from",
        "429",
        "# Postmortem",
        "questions lost",
        "what users noticed",
        "the demo took",
    ):
        assert words.lstrip("# ") in progress, words
    written = [Path(path) for path in re.findall(r"postmortem: (\S+\.md)", progress)]
    assert len(written) == 3
    for path in written:
        assert path.is_relative_to(home)
        assert "It was recovered and verified" in path.read_text()


def test_demo__killed_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    """Within fifteen seconds of a SIGKILL of the demo no process of it is left."""
    home = tmp_path / "home"
    with _demo(home) as process:
        _wait_for_responder(home, process)
        assert len(processes_of(home)) > 5
        os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 15
        while left := processes_of(home):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)


def _wait_for_responder(home: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the last part but one is being started: most run then, and something is underway."""
    deadline = time.monotonic() + 240
    while True:
        state = summarize(read_journal(home))
        if state and any(part.name == "responder" and part.state != "waiting" for part in state.parts):
            return
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, state
        time.sleep(0.1)
