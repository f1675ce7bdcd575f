"""What each level of service of the LLM plane holds, when it is set as a whole. Pure."""

from reanimate.switches.document import Claim

__all__ = ["LEVELS", "claims_of_level"]

LEVELS: dict[str, dict[str, str]] = {
    "normal": {},
    "degraded": {"llm_tier": "cheaper", "llm_cache": "first"},
    "minimal": {"llm_tier": "cheaper", "llm_cache": "only"},
}
"""Level → switch → value."""


def claims_of_level(level: str, scope: str) -> list[Claim]:
    """Return what a level claims for a scope."""
    return [Claim(switch, scope, value) for switch, value in LEVELS[level].items()]
