"""Set Prefect up: the work pool and every deployment of prefect.yaml. Safe to run at every start.

`python -m deployments.provision` needs the server to answer. When nothing has changed since it last ran, and the
server still has everything, it leaves it at that.
"""

import asyncio
import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from deployments.catalogue import ROOT, document
from reanimate.addresses import Addresses
from reanimate.config import Settings, load_settings
from reanimate.errors import ReanimateError, ServerFailed
from reanimate.files import write_atomically
from reanimate.orchestrator.environment import client_environment
from reanimate.orchestrator.launcher import RESPOND, Launcher
from tasks.schedules import fitted_schedule

__all__ = ["fitted", "main", "pool_template", "provision"]

_CALL_S = 30.0
_DEPLOY_S = 120.0


def pool_template(settings: Settings, root: Path = ROOT) -> dict[str, Any]:
    """Return the base job template of the pool: how a process worker starts a run here.

    The environment has no secrets: a worker's runs inherit those from the worker itself.
    """
    variables = {
        "command": ("string", f"{sys.executable} -m prefect.engine"),  # one Python start instead of three
        "working_dir": ("string", str(root)),
        "env": ("object", {"PYTHONPATH": str(root), "REANIMATE_HOME": str(settings.home)}),
        "stream_output": ("boolean", False),
        "name": ("string", "reanimate"),
        "labels": ("object", {}),
    }
    return {
        "job_configuration": {name: f"{{{{ {name} }}}}" for name in variables},
        "variables": {
            "type": "object",
            "properties": {
                name: {"type": kind, "default": default, "title": name.replace("_", " ").capitalize()}
                for name, (kind, default) in variables.items()
            },
        },
    }


def fitted(plan: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return prefect.yaml's content for this installation: schedules in its time zone, runs in its pool."""
    fitting = dict(plan)
    fitting["deployments"] = [
        {
            **entry,
            "work_pool": {**entry["work_pool"], "name": settings.prefect.pool},
            "schedules": [
                fits for each in entry.get("schedules", ()) if (fits := fitted_schedule(each, settings)) is not None
            ],
        }
        for entry in plan["deployments"]
    ]
    return fitting


def _fingerprint(plan: Mapping[str, Any], template: Mapping[str, Any], api: str, root: Path) -> str:
    """Return what changes when something must be deployed again: the plan, the pool, the flows and their forms."""
    digest = hashlib.sha256(repr((plan, template, api, sys.version)).encode())
    for path in (*sorted((root / "flows").glob("*.py")), root / "reanimate" / "incidents" / "faults.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


async def provision(settings: Settings, addresses: Addresses, *, root: Path = ROOT) -> bool:
    """Make pool and deployments as they should be; say whether anything had to be done.

    Raises:
        Unreachable: the server does not answer.
        ServerFailed: deploying failed; the message has Prefect's last words.
        ConfigInvalid: prefect.yaml is not usable.
    """
    plan, template = fitted(document(root), settings), pool_template(settings, root)
    marker = settings.home / "run" / "provisioned"
    wanted = _fingerprint(plan, template, addresses.prefect_api, root)
    async with httpx.AsyncClient(trust_env=False) as http:
        launcher = Launcher(http, addresses.prefect_api, budget_s=_CALL_S)
        known = marker.read_text() if marker.exists() else ""
        if known == wanted and await launcher.has_deployment(RESPOND):
            return False
        marker.unlink(missing_ok=True)
        await launcher.ensure_pool(settings.prefect.pool, template)
    file = settings.home / "run" / "prefect.yaml"
    write_atomically(file, yaml.safe_dump(plan, sort_keys=False).encode())
    await _deploy(file, root, {**client_environment(settings, addresses), "REANIMATE_ROOT": str(root)})
    write_atomically(marker, wanted.encode())
    return True


async def _deploy(file: Path, root: Path, environment: Mapping[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)),
        cwd=root,
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join([str(root), *_python_path()])},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_DEPLOY_S):
            said, _ = await process.communicate()
    except TimeoutError:
        raise ServerFailed(f"deploying {file} to Prefect did not end within {_DEPLOY_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        last = " / ".join(said.decode(errors="replace").strip().splitlines()[-5:])
        raise ServerFailed(f"deploying {file} to Prefect failed: {last}")


def _python_path() -> list[str]:
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]


def main() -> int:
    """Provision, and say in one line what came of it."""
    try:
        settings = load_settings()
        done = asyncio.run(provision(settings, Addresses.load(settings.home)))
    except ReanimateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("deployed to Prefect" if done else "Prefect has everything already", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
