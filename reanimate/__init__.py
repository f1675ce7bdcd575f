"""Disaster recovery for AI agents.

The library: everything that must work when the orchestrator is dead lives here, so nothing in it imports Prefect.
"""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """Look up `__version__` when somebody asks: the metadata take a quarter of a second that most processes save."""
    if name != "__version__":
        raise AttributeError(f"module 'reanimate' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("reanimate")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0.0.0"
