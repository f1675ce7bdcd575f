"""Who asks: known by a key of the gateway's, or, where none are configured, by what the caller says."""

import hashlib

from reanimate.gateway.llm.call import Tenant
from reanimate.gateway.llm.failures import Rejected
from reanimate.llm_settings import LlmSettings

__all__ = ["Tenants"]

_KNOWN_KEPT = 10_000
_NAME_LIMIT = 80


def _digest(key: bytes) -> str:
    return hashlib.blake2b(key, digest_size=16).hexdigest()


class Tenants:
    """Keys are compared by their hashes, so that the time an answer takes says nothing about a key."""

    def __init__(self, settings: LlmSettings) -> None:
        self._by_key = {
            _digest(key.get_secret_value().encode()): Tenant(item.name, item.name, item.weight)
            for item in settings.tenants
            for key in item.keys
        }
        self._known: dict[tuple[bytes, bytes], Tenant] = {}

    def identify(self, headers: list[tuple[bytes, bytes]]) -> Tenant:
        """Return who sent these headers (names in lower case).

        Raises:
            Rejected: 401, tenants are configured and this key is none of theirs.
        """
        key = said = b""
        for name, value in headers:
            if name in (b"authorization", b"x-api-key", b"api-key"):
                key = value
            elif name == b"x-reanimate-tenant":
                said = value
        tenant = self._known.get((key, said))
        if tenant is None:
            tenant = self._find(key, said)
            if len(self._known) < _KNOWN_KEPT:
                self._known[key, said] = tenant
        return tenant

    def _find(self, key: bytes, said: bytes) -> Tenant:
        scheme, _, token = key.partition(b" ")
        if scheme.lower() == b"bearer":
            key = token
        if self._by_key:
            tenant = self._by_key.get(_digest(key))
            if tenant is None:
                raise Rejected(401, "unauthorized", "the key is none of the gateway's tenants" if key else "no key")
            return tenant
        name = said.decode("ascii", "replace")[:_NAME_LIMIT] or "default"
        return Tenant(name, f"{name} {_digest(key)}")
