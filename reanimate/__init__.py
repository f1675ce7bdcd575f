"""Disaster recovery for AI agents.

The library: everything that must work when the orchestrator is dead lives here, so nothing in it imports Prefect.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("reanimate")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
