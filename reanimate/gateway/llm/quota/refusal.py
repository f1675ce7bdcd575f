"""What a caller is told when a quota does not allow its call."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from reanimate.gateway.llm.failures import Rejected
from reanimate.gateway.llm.quota.purse import Purse
from reanimate.quota.amounts import said

__all__ = ["refusal"]

_SOON_S = 5.0


def refusal(purse: Purse, amount: int, *, away_s: float | None, currency: str, now: float) -> Rejected:
    """Return the error for a call that would need `amount`. It says which quota, how much, and when it resets."""
    quota, key = purse.terms.quota, purse.key
    whose = f" of tenant {key.tenant}" if key.tenant else ""
    resets = datetime.fromtimestamp(purse.ends, UTC).astimezone(ZoneInfo(quota.timezone))
    used = said(key.meter, purse.others + purse.drawn, currency)
    limit = said(key.meter, purse.limit, currency)
    what = f"{'the reserve of ' if key.pot == 'reserve' else ''}quota {quota.name!r}{whose}"
    reset = f"it resets at {resets:%Y-%m-%d %H:%M %Z}"
    until_reset = max(1.0, purse.ends - now)
    if purse.limit == 0:
        return Rejected(429, "quota_exhausted", f"{what} allows none: its limit is {limit} per {quota.window}")
    if amount > purse.limit:
        need = said(key.meter, amount, currency)
        message = f"{what}: this call may need {need}, more than the whole limit of {limit} per {quota.window}"
        return Rejected(429, "quota_exhausted", f"{message}; bound its output with max_tokens")
    if away_s is not None:
        message = (
            f"{what}: the control plane has been away for {away_s:.0f} s, and this gateway has given out what it may "
            f"without it ({used} of {limit} used this {quota.window}, as far as it knows); {reset}"
        )
        return Rejected(429, "quota_exhausted", message, retry_after_s=min(_SOON_S, until_reset))
    message = f"{what} is used up: {used} of {limit} this {quota.window}, and this call may need "
    message += f"{said(key.meter, amount, currency)}; {reset}"
    if amount <= purse.left + purse.held:
        message += "; other gateways hold some of it and may give it back sooner"
        return Rejected(429, "quota_exhausted", message, retry_after_s=min(quota.lease_s, until_reset))
    return Rejected(429, "quota_exhausted", message, retry_after_s=until_reset)
