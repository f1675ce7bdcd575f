"""Object stores by URL: a folder, S3 and what speaks like it, Google, Azure; with options as the settings give them."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from reanimate.errors import ConfigInvalid

__all__ = ["OPTION_WORDS", "open_url", "shown_url"]

_CLIENT_OPTIONS = {
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "http1_only",
    "http2_only",
    "proxy_ca_certificate",
    "proxy_url",
    "timeout",
    "user_agent",
}
_CLIENT_DEFAULTS = {"connect_timeout": "5s", "timeout": "120s"}
"""A part of 8 MB must come through a slow line within the time limit."""
_RETRY: dict[str, Any] = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
_S3_SCHEMES = {"s3", "s3a"}
OPTION_WORDS = "endpoint, region, access_key_id, secret_access_key, allow_http, …"


def open_url(url: str, options: Mapping[str, str] | None = None) -> ObjectStore:
    """Open the store at a URL; file:// makes the folder. Credentials not among the options come from the environment.

    S3 is sent a SHA-256 with everything: a bucket with object lock asks for one, and a server holds it against what
    it received. The option `checksum_algorithm = "none"` leaves it out.

    Raises:
        ConfigInvalid: the URL is of no known kind, an option is unknown, or the folder cannot be made.
    """
    where = urlsplit(url)
    try:
        if where.scheme == "file":
            return LocalStore(prefix=Path(unquote(where.path)), mkdir=True)
        given = dict(options or {})
        client = _CLIENT_DEFAULTS | {name: given.pop(name) for name in _CLIENT_OPTIONS & given.keys()}
        if allowed := os.environ.get("AWS_ALLOW_HTTP"):  # the one of the usual names that obstore itself passes over
            client.setdefault("allow_http", allowed)
        if where.scheme in _S3_SCHEMES and "AWS_CHECKSUM_ALGORITHM" not in os.environ:
            given.setdefault("checksum_algorithm", "SHA256")
        if given.get("checksum_algorithm", "").lower() == "none":
            del given["checksum_algorithm"]
        open_any: Any = from_url  # its types want to know the kind of store beforehand
        store: ObjectStore = open_any(url, config=given, client_options=client, retry_config=_RETRY)
        return store
    except (BaseError, ValueError, OSError) as error:
        said = str(error).split("\n", 1)[0].replace(url, shown_url(url))
        raise ConfigInvalid(
            f"the blob store {shown_url(url)} cannot be opened: {said}", hint=f"options are {OPTION_WORDS}"
        ) from None


def shown_url(url: str) -> str:
    """Return a URL fit to be shown: without a user, a password or a query."""
    where = urlsplit(url)
    return f"{where.scheme}://{where.hostname or ''}{where.path}"
