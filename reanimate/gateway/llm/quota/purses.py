"""The purses of this gateway, and which of them a call draws on."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from reanimate.gateway.llm.call import Tenant
from reanimate.gateway.llm.catalogue import Route, Target
from reanimate.gateway.llm.quota.book import ENDS, Book
from reanimate.gateway.llm.quota.purse import METERS, Purse, Terms
from reanimate.llm_settings import LlmSettings, QuotaSettings
from reanimate.quota.demand import AccountKey
from reanimate.quota.windows import window_at

__all__ = ["Plan", "Purses"]

_PLANS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What calls of one tenant on one route draw on, until the first of the windows ends."""

    ends: float
    common: tuple[Purse, ...]
    targets: dict[str, tuple[Purse, ...]]
    """By provider/model, where a quota is for one or some of them only."""
    first: Target | None
    """Whose prices estimates are made with."""

    @property
    def all(self) -> tuple[Purse, ...]:
        return (*self.common, *(purse for purses in self.targets.values() for purse in purses))


class Purses:
    """All purses, open and ended. What the book says from before a restart goes on where it was."""

    def __init__(self, settings: LlmSettings, book: Book) -> None:
        self._book = book
        self._plans: dict[tuple[str, str], Plan] = {}
        self.by_key: dict[AccountKey, Purse] = {}
        self.on_new: Callable[[Purse], None] = lambda purse: None
        self.configure(settings)
        for key, page in book.pages():
            if (terms := self._terms_of(key)) is not None:
                self.by_key[key] = Purse(key, page.cells[page.base + ENDS], terms, page)
            else:
                book.clear(page)  # the quota is not in the settings any more: nothing limits what was used of it

    def configure(self, settings: LlmSettings) -> None:
        """Take other settings; what was used stays used."""
        self.quotas = settings.quotas
        self._plans.clear()
        for key, purse in self.by_key.items():
            if (terms := self._terms_of(key)) is not None:
                purse.limit += (terms.limit - purse.terms.limit) if key.pot == "normal" else 0
                purse.terms = terms

    def _terms_of(self, key: AccountKey) -> Terms | None:
        quota = next((quota for quota in self.quotas if quota.name == key.quota), None)
        meter = next((meter for meter in METERS if meter.value == key.meter), None)
        return Terms.of(quota, meter) if quota is not None and meter is not None else None

    def plan(self, tenant: Tenant, route: Route, now: float) -> Plan:
        """Return what such calls draw on now."""
        plan = self._plans.get((tenant.name, route.name))
        if plan is None or now >= plan.ends:
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            plan = self._plans[tenant.name, route.name] = self._make(tenant, route, now)
        return plan

    def _make(self, tenant: Tenant, route: Route, now: float) -> Plan:
        common: list[Purse] = []
        targets: dict[str, list[Purse]] = {}
        choices = [choice.target for choice in (*route.targets, *route.cheaper)]
        names = (route.name, *route.settings.also)
        for quota in self.quotas:
            if not fnmatchcase(tenant.name, quota.tenant):
                continue
            if any(name == quota.model or fnmatchcase(name, quota.model) for name in names):
                common += self._of(quota, tenant, now)
                continue
            for target in choices:
                if fnmatchcase(target.name, quota.model) and target.name not in targets:
                    targets[target.name] = []
            for name, purses in targets.items():
                if fnmatchcase(name, quota.model):
                    purses += self._of(quota, tenant, now)
        every = [*common, *(purse for purses in targets.values() for purse in purses)]
        return Plan(
            ends=min((purse.ends for purse in every), default=float("inf")),
            common=tuple(common),
            targets={name: tuple(purses) for name, purses in targets.items()},
            first=choices[0] if choices else None,
        )

    def _of(self, quota: QuotaSettings, tenant: Tenant, now: float) -> list[Purse]:
        window = window_at(quota.window, quota.timezone, now)
        subject = tenant.name if quota.per_tenant else ""
        found = []
        for meter in METERS:
            if (terms := Terms.of(quota, meter)) is not None:
                key = AccountKey(quota.name, subject, meter.value, "normal", window.starts)
                found.append(self._open(key, window.ends, terms))
        return found

    def reserve_of(self, purse: Purse) -> Purse | None:
        """Return the reserve behind a purse, if its quota has one."""
        if purse.backup is None and purse.terms.reserve and purse.key.pot == "normal":
            purse.backup = self._open(purse.key._replace(pot="reserve"), purse.ends, purse.terms)
        return purse.backup

    def _open(self, key: AccountKey, ends: int, terms: Terms) -> Purse:
        if (purse := self.by_key.get(key)) is None:
            purse = self.by_key[key] = Purse(key, ends, terms, self._book.page(key, ends))
            self.on_new(purse)
        return purse

    def close(self, purse: Purse) -> None:
        """Forget a purse whose window is over and of which everything has been told."""
        if self.by_key.pop(purse.key, None) is not None:
            self._book.clear(purse.page)
