"""What a kill or a rate cut is about: a tenant, a route, a tool, or everything."""

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from reanimate.gateway.llm.call import Call

__all__ = ["Subjects", "tools_of"]

V = TypeVar("V")


class Subjects(Generic[V]):
    """Values by scope, found by what a call belongs to: a lookup each, however many there are."""

    __slots__ = ("_all", "_routes", "_tenants", "_tools", "by_scope")

    def __init__(self, by_scope: Mapping[str, V]) -> None:
        self.by_scope = dict(by_scope)
        self._all = self.by_scope.get("*")
        self._tenants = self._of("tenant:")
        self._routes = self._of("route:")
        self._tools = self._of("tool:")

    def _of(self, kind: str) -> dict[str, str]:
        return {scope.removeprefix(kind): scope for scope in self.by_scope if scope.startswith(kind)}

    def first(self, call: Call) -> str | None:
        """Return the first scope that a call is in."""
        if self._all is not None:
            return "*"
        if (scope := self._tenants.get(call.tenant.name)) is not None:
            return scope
        if (scope := self._routes.get(call.route.name)) is not None:
            return scope
        if self._tools:
            return next((self._tools[tool] for tool in tools_of(call.prompt.fields) if tool in self._tools), None)
        return None

    def all(self, call: Call) -> Iterator[tuple[str, V]]:
        """Yield every scope that a call is in, with its value."""
        if self._all is not None:
            yield "*", self._all
        for scope in (self._tenants.get(call.tenant.name), self._routes.get(call.route.name)):
            if scope is not None:
                yield scope, self.by_scope[scope]
        if self._tools:
            for tool in dict.fromkeys(tools_of(call.prompt.fields)):
                if tool in self._tools:
                    yield self._tools[tool], self.by_scope[self._tools[tool]]


def tools_of(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the tools that a request offers to the model, in any of the wires' shapes."""
    for key in ("tools", "functions"):
        offered = fields.get(key)
        if not isinstance(offered, list):
            continue
        for tool in offered:
            if not isinstance(tool, dict):
                continue
            function = tool.get("function")
            name = (function if isinstance(function, dict) else tool).get("name") or tool.get("type")
            if isinstance(name, str):
                yield name
