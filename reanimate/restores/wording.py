"""A restore plan in words: the same lines in a terminal and on a run's page."""

from reanimate.restores.outlook import megabytes
from reanimate.restores.plan import RestorePlan

__all__ = ["plan_lines"]


def plan_lines(plan: RestorePlan) -> dict[str, str]:
    """Return what a restore would do, by name, in the order to be read."""
    outlook = plan.outlook
    free = f"{megabytes(outlook.free_here)} free" if outlook.free_here is not None else "free: not known"
    there = (
        f"{megabytes(outlook.free_there)} free"
        if outlook.free_there is not None
        else "its API does not say what is free"
    )
    expected = f"; now about {outlook.expected_s:g} s" if outlook.expected_s is not None else ""
    size = megabytes(plan.size_bytes)
    kind = f", changes on top of {plan.base}" if plan.base else ""
    return {
        "backup": f"{plan.backup_id} from {plan.repository}: {plan.why}",
        "proof": plan.proof,
        "holds": f"{plan.points} points in {plan.shards} shard(s), {size}{kind}, by {plan.made_by}",
        "lost": plan.lost,
        "writes since": _writes(plan),
        "goes to": f"{plan.new_name} on {plan.target} ({plan.server})",
        "switches": ", ".join(plan.aliases) or "the collection's own name, if nothing has it",
        "took last time": f"{outlook.took_last}{expected}",
        "room here": f"{megabytes(outlook.needed_here)} needed, {free}",
        "room there": f"about {megabytes(outlook.needed_there)} needed on the server, {there}",
    }


def _writes(plan: RestorePlan) -> str:
    if plan.writes is None:
        return "not known: a gateway did not say, or said nothing when the backup was taken"
    if not plan.writes.total:
        return "the gateways acknowledged none"
    named = ", ".join(f"{count} to {name}" for name, count in plan.writes.by_name.items())
    return f"{plan.writes.total} acknowledged by the gateways since {plan.writes.since[:19]} ({named})"
