"""The environment that every process with Prefect inside runs with, so that none touches a person's own profile."""

from reanimate.addresses import Addresses
from reanimate.config import Settings

__all__ = ["client_environment"]


def client_environment(settings: Settings, addresses: Addresses) -> dict[str, str]:
    """Return the variables that make a Prefect client, worker or flow run use our server and our home directory."""
    return {
        "REANIMATE_HOME": str(settings.home),
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_PROFILES_PATH": str(settings.home / "prefect" / "profiles.toml"),
        "PREFECT_API_URL": addresses.prefect_api,
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        # A second try at once is useful, a minute of them is not: the direct way is there.
        "PREFECT_CLIENT_MAX_RETRIES": "1",
        "PREFECT_API_REQUEST_TIMEOUT": "5",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_LOGGING_COLORS": "false",
    }
