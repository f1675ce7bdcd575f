"""Every error of the library, as one tree.

    ReanimateError
    ├── Transient               trying again may help
    │   ├── Unreachable         nothing answered: refused, reset, timed out
    │   ├── ServerFailed        it answered with a 5xx, or something unreadable
    │   └── Busy                somebody else holds the lock or the slot
    └── Permanent               a person or another plan must act
        ├── ConfigInvalid       settings, rights, versions, ports
        ├── InputInvalid        what a caller sent cannot be used
        ├── NotFound            it is not there
        ├── Refused             a server said no (4xx), or a rule forbids it
        ├── Damaged             bytes are not what their checksum says
        ├── VerificationFailed  what was restored is not what was backed up
        ├── CheckFailed         a step's check before or after did not hold
        └── UnknownAction       a runbook names something that is not in the registry

A message says what was attempted, on what, and what was found; `hint` says what to do next.
"""

__all__ = [
    "Busy",
    "CheckFailed",
    "ConfigInvalid",
    "Damaged",
    "InputInvalid",
    "NotFound",
    "Permanent",
    "ReanimateError",
    "Refused",
    "ServerFailed",
    "Transient",
    "UnknownAction",
    "Unreachable",
    "VerificationFailed",
    "is_transient",
]


class ReanimateError(Exception):
    """The root. `str(error)` is one line fit for a terminal at three in the morning."""

    hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}; {self.hint}" if self.hint else message


class Transient(ReanimateError):
    """Trying again may help."""


class Unreachable(Transient):
    """Nothing answered: refused, reset or timed out."""


class ServerFailed(Transient):
    """A server answered with a 5xx or with something that cannot be read."""


class Busy(Transient):
    """Somebody else holds the lock or the slot."""


class Permanent(ReanimateError):
    """Trying again will not help: a person or another plan must act."""


class ConfigInvalid(Permanent):
    """Settings, rights, versions or ports are not usable as they are."""


class InputInvalid(Permanent):
    """What a caller sent cannot be used."""


class NotFound(Permanent):
    """It is not there."""


class Refused(Permanent):
    """A server said no (4xx), or a rule forbids it."""


class Damaged(Permanent):
    """Bytes are not what their checksum says."""


class VerificationFailed(Permanent):
    """What was restored is not what was backed up."""


class CheckFailed(Permanent):
    """A step's check before or after did not hold."""


class UnknownAction(Permanent):
    """A runbook names an action or a step that is not in the closed registry."""


def is_transient(error: BaseException) -> bool:
    """Say whether a retry may help. Errors from outside the tree are judged by kind."""
    return isinstance(error, (Transient, TimeoutError, ConnectionError))
