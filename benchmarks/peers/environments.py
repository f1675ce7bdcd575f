"""Peers that come as packages live in environments of their own under `.peers/`, made when first needed."""

import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

__all__ = ["peer_environment"]

ROOT = Path(__file__).parent.parent.parent
progress = Console(stderr=True)


def peer_environment(name: str, *requirements: str) -> Path:
    """Return the folder with the peer's programs; its packages never meet ours, nor our lock file.

    Raises:
        CalledProcessError: it could not be installed.
    """
    folder = ROOT / ".peers" / name
    stamp = folder / "installed"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        progress.print(f"installing {', '.join(requirements)} into {folder.relative_to(ROOT)}/")
        uv = next(found for found in (str(ROOT / ".uv/bin/uv"), shutil.which("uv")) if found and Path(found).exists())
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        python = str(folder / "bin" / "python")
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *requirements], check=True)
        stamp.write_text(wanted)
    return folder / "bin"
