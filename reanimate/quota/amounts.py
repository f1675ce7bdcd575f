"""Limits of quotas as whole numbers: of the settings, and as people write and read them. Pure."""

from reanimate.errors import InputInvalid
from reanimate.llm_settings import LlmSettings, QuotaSettings
from reanimate.quota.demand import NANO, Meter

__all__ = ["find_quota", "said", "split", "whole"]


def whole(meter: Meter, amount: float) -> int:
    """Return an amount as it is counted: money in billionths.

    Raises:
        InputInvalid: it is negative.
    """
    if amount < 0:
        raise InputInvalid(f"{amount:g} {meter.value} is negative")
    return round(amount * NANO) if meter is Meter.MONEY else int(amount)


def split(quota: QuotaSettings, meter: Meter) -> tuple[int, int] | None:
    """Return what ordinary calls may use, and the reserve; None if the quota does not limit this meter."""
    given = getattr(quota, meter.value)
    if given is None:
        return None
    limit = whole(meter, given)
    reserve = int(limit * quota.reserve)
    return limit - reserve, reserve


def said(meter: str, amount: int, currency: str = "") -> str:
    """Return an amount as people read it."""
    if meter == Meter.MONEY:
        text = f"{amount / NANO:,.4f}"
        return f"{text.removesuffix('00')} {currency}".strip()
    return f"{amount:,} {meter}"


def find_quota(settings: LlmSettings, name: str) -> QuotaSettings:
    """Return the quota of that name.

    Raises:
        InputInvalid: there is none; the message lists those there are.
    """
    for quota in settings.quotas:
        if quota.name == name:
            return quota
    known = ", ".join(quota.name for quota in settings.quotas) or "none"
    raise InputInvalid(f"no quota is called {name!r}", hint=f"there are: {known}")
