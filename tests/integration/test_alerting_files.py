"""The files that connect Prometheus and Alertmanager, judged by Prometheus' and Alertmanager's own programs."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.external

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
RULES = DEPLOYMENTS / "prometheus-rules.yml"
RULES_TESTS = Path(__file__).with_name("prometheus_rules_tests.yml")
# Labels are routed by these alone, so no rule may spell them another way.
OF_A_DEPENDENCY = ("VectorDatabaseDown", "VectorDatabaseEmpty")


def _said(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a program that must find nothing wrong, and return what it says."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus__takes_its_files(need_program: Callable[..., str]) -> None:
    """promtool finds both files right, the rules among them."""
    said = _said(need_program("promtool"), "check", "config", DEPLOYMENTS / "prometheus.yml")
    assert "1 rule files found" in said


def test_rules__fire_when_they_should(need_program: Callable[..., str], tmp_path: Path) -> None:
    """Each rule fires on the series that mean it, not before its time, and a system that is well is left alone."""
    for source in (RULES, RULES_TESTS):
        shutil.copy(source, tmp_path)
    assert "SUCCESS" in _said(need_program("promtool"), "test", "rules", RULES_TESTS.name, cwd=tmp_path)


def test_rules__are_all_tried() -> None:
    """No rule is without a case that makes it fire."""
    names = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    assert names == {name for name in names if name in RULES_TESTS.read_text()}
    assert names >= set(OF_A_DEPENDENCY)


def test_alertmanager__takes_its_file(need_program: Callable[..., str]) -> None:
    """amtool finds the file right, both receivers among it."""
    assert "2 receivers" in _said(need_program("amtool"), "check-config", DEPLOYMENTS / "alertmanager.yml")


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        *((["respond=reanimate", f"alertname={name}", "target=primary"], "reanimate") for name in OF_A_DEPENDENCY),
        (["alertname=ReanimatePartDown", "part=web"], "people"),
        (["alertname=LlmTargetOut", "target=main/large"], "people"),
        (["alertname=DiskFull"], "people"),
    ],
)
def test_alertmanager__sends_each_where_it_belongs(
    need_program: Callable[..., str], labels: list[str], receiver: str
) -> None:
    """What reanimate can mend is posted to it; what is about reanimate, or about anything else, goes to people."""
    config = DEPLOYMENTS / "alertmanager.yml"
    said = _said(need_program("amtool"), "config", "routes", "test", f"--config.file={config}", *labels)
    assert said.split() == [receiver]
