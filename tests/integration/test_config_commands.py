"""`reanimate config …` and the doctor's findings, in processes of their own, while nothing else runs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reanimate.config import load_settings
from reanimate.doctor.configuration import configuration_findings

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    return folder


@pytest.fixture
def home(tmp_path: Path, etc: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "reanimate.toml").write_text(f'[configuration]\nfiles = ["{etc}"]\nqdrant = false\n')
    monkeypatch.setenv("REANIMATE_HOME", str(folder))
    return folder


@pytest.fixture
def config(home: Path, etc: Path) -> Run:
    """Run `reanimate config` with arguments, from the folder of the files, as a person would."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "reanimate.cli", "config", *arguments],
            env={**os.environ, "COLUMNS": "160"},
            cwd=etc,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_config__keep_history_diff_restore(config: Run, etc: Path) -> None:
    """The way of a wrong change at night: what changed, put it back, and the way back from that."""
    file = etc / "agent.yaml"
    file.write_text("model: good\napi_key: one-secret\n")
    assert json.loads(config("keep", "--json").stdout)["watched"] == 1
    file.write_text("model: bad\napi_key: other-secret\n")
    shown = config("diff", "agent.yaml")
    assert "-model: good" in shown.stdout
    assert "+model: bad" in shown.stdout
    assert "secret" not in shown.stdout
    dry = config("restore", "agent.yaml", "--version", "latest", "--dry-run")
    assert "• write" in dry.stdout
    assert file.read_text().startswith("model: bad")
    done = config("restore", "agent.yaml", "--version", "latest")
    assert done.returncode == 0, done.stderr
    assert file.read_text().startswith("model: good")
    back = done.stdout.split("to go back: reanimate config ")[1].split()
    assert config(*back).returncode == 0
    assert file.read_text().startswith("model: bad")
    versions = json.loads(config("history", str(file), "--json").stdout)
    assert [version["author"]["source"] for version in versions] == ["restore", "restore", "owner", "owner"]
    assert "put back version" in config("history").stdout


def test_config__what_is_not_there_is_one_line(config: Run, etc: Path) -> None:
    """An error says what was looked for and what to do."""
    for arguments, said in (
        (("diff", "nothing.yaml"), "no version of"),
        (("restore", "qdrant:primary/points", "--version", "latest"), "is no setting of a vector server"),
    ):
        failed = config(*arguments)
        assert failed.returncode == 1
        assert said in failed.stderr
        assert "Traceback" not in failed.stderr
    assert "No version has been kept" in config("history").stderr


async def test_doctor__tells_of_secrets_kept_in_the_clear(config: Run, home: Path, etc: Path) -> None:
    """Until there are recipients; and of files that cannot be kept, and of a keeping that does not come."""
    (etc / "agent.yaml").write_text("password: correct horse\n")
    os.mkfifo(etc / "pipe")
    (nothing,) = await configuration_findings(load_settings(), running=True)
    assert "nothing was kept yet" in nothing.found
    config("keep")
    found = {finding.about: finding for finding in await configuration_findings(load_settings(), running=True)}
    assert str(etc / "agent.yaml") in found["secrets in backups"].found
    assert "backups.recipients" in found["secrets in backups"].to_do
    assert "pipe" in found["configuration"].found
    last = home / "config-history" / "last.json"
    noted = json.loads(last.read_text())
    last.write_text(json.dumps({**noted, "at": "2026-01-01T00:00:00+00:00", "problems": []}))
    findings = await configuration_findings(load_settings(), running=True)
    assert any("does not run" in finding.to_do for finding in findings)
