"""Who may post alerts: every module of this package is a sender, found by being here.

A sender is a file with the four names of `Sender`. To add one, add its file; nothing else changes.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Protocol, runtime_checkable

from reanimate.alerts.model import Reading, RequestHead
from reanimate.config import AlertSettings
from reanimate.secrets import Secrets

__all__ = ["Sender", "senders"]


@runtime_checkable
class Sender(Protocol):
    """One kind of system that posts alerts to `/alerts/{SOURCE}`. All pure; `now` is the time of the request."""

    @property
    def SOURCE(self) -> str:
        """The last part of its URL."""

    def authenticate(
        self, head: RequestHead, body: bytes, settings: AlertSettings, secrets: Secrets, now: datetime
    ) -> None:
        """Accept who posts.

        Raises:
            AuthenticationFailed: it is not one of those configured, or none is.
        """

    def read(self, head: RequestHead, body: bytes, now: datetime) -> Reading:
        """Return what the body says. The same bytes, or a repetition of the same news, give the same key.

        Raises:
            WrongContentType: the body is of a type this sender does not send.
            InputInvalid: it cannot be read; the message names the field.
        """


@cache
def senders() -> Mapping[str, Sender]:
    """Return every sender by its source."""
    found: dict[str, Sender] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        if not isinstance(module, Sender):
            raise TypeError(f"{module.__name__} is not a sender: it needs SOURCE, authenticate and read")
        if module.SOURCE in found:
            raise TypeError(f"two senders answer for {module.SOURCE!r}")
        found[module.SOURCE] = module
    return found
