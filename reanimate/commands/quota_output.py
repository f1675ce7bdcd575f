"""How quotas look in a terminal."""

from typing import Any
from zoneinfo import ZoneInfo

from rich.markup import escape
from rich.table import Column, Table

from reanimate.clock import utcnow
from reanimate.commands.output import id_column, out
from reanimate.incidents.wording import duration, moment
from reanimate.quota.amounts import said
from reanimate.quota.demand import Meter

__all__ = ["print_history", "print_standings", "standings_table"]

_WIDTH = 10
_ROOMY = 130
"""Columns from which on all that is known of a quota has room beside one another."""


def print_standings(view: dict[str, Any]) -> None:
    """Print how every quota stands, then what is granted on top and which reserves are open.

    `held` is lent to gateways: some of it may be used already, they tell every few seconds.
    """
    out.print(standings_table(view, out.width))
    for grant in view["grants"]:
        out.print(_grant_line(grant, view["currency"]), highlight=False, soft_wrap=True)


def standings_table(view: dict[str, Any], width: int) -> Table:
    """Return how every quota stands; in a narrow terminal without what can be looked up in the settings."""
    numbers = [Column(name, justify="right", no_wrap=True) for name in ("used", "limit", "left", "held", "reserve")]
    if width >= _ROOMY:
        titles = [id_column("quota"), Column("tenant"), Column("for"), Column("of what"), numbers[0]]
        titles += [Column("", no_wrap=True), *numbers[1:], id_column("resets")]
        rows = [_row(row, view["currency"]) for row in view["quotas"]]
    else:
        titles = [id_column("quota"), Column("tenant"), id_column("of what"), numbers[0], id_column(""), *numbers[1:3]]
        titles.append(id_column("resets"))
        rows = [_short_row(row, view["currency"]) for row in view["quotas"]]
    table = Table(*titles, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table


def _short_row(row: dict[str, Any], currency: str) -> list[str]:
    quota, tenant, _, what, used, _, limit, left, *_ = _row(row, currency)
    share = f"[{_tone(row)}]{row['share']:.0%}[/]" if row["share"] is not None else "none"
    return [quota, tenant, what, used, share, limit, left, duration((row["resets_at"] - utcnow()).total_seconds())]


def _row(row: dict[str, Any], currency: str) -> list[str]:
    meter, share = row["meter"], row["share"]
    resets = row["resets_at"].astimezone(ZoneInfo(row["timezone"]))
    return [
        escape(row["quota"]),
        escape(row["tenant"] or ("all" if row["tenants"] == "*" else f"all of {row['tenants']}")),
        escape("all" if row["model"] == "*" else row["model"]),
        currency if meter == Meter.MONEY else meter,
        _number(meter, row["spent"]),
        f"[{_tone(row)}]{_bar(share or 0.0)}[/] " + (f"{share:.0%}" if share is not None else "none"),
        _number(meter, row["limit"])
        + (f" (+{_number(meter, row['granted_on_top'])})" if row["granted_on_top"] else ""),
        _number(meter, row["left"]),
        _number(meter, row["held"]) if row["held"] else "–",
        f"{_number(meter, row['reserve_spent'])} of {_number(meter, row['reserve'])}" if row["reserve"] else "–",
        f"{resets:%m-%d %H:%M %Z}, in {duration((resets - utcnow()).total_seconds())}",
    ]


def _number(meter: str, amount: int) -> str:
    return said(meter, amount).split()[0]


def _tone(row: dict[str, Any]) -> str:
    if row["share"] is None:
        return "dim"
    if row["share"] >= 1 or 1.0 in row["alerts"]:
        return "red"
    return "yellow" if row["alerts"] else "green"


def _bar(share: float) -> str:
    full = min(_WIDTH, round(share * _WIDTH))
    return "█" * full + "░" * (_WIDTH - full)


def _grant_line(grant: dict[str, Any], currency: str) -> str:
    whose = f" of {grant['tenant']}" if grant["tenant"] else ""
    if grant["kind"] == "break_glass":
        what = f"[bold red]glass broken:[/] the reserve of {escape(grant['quota'])}{escape(whose)} is open"
    else:
        more = said(grant["meter"], grant["amount"], currency)
        what = f"granted: {more} more of {escape(grant['quota'])}{escape(whose)}"
    return (
        f"{what} until {moment(grant['until'])} ({escape(grant['who'])}: {escape(grant['why'])}); "
        f"ended by: reanimate quota revoke {grant['id']} --reason …"
    )


def print_history(view: dict[str, Any]) -> None:
    """Print windows that were, and what people did."""
    windows = Table(
        id_column("quota"), "tenant", "window (UTC)", Column("used", justify="right"), Column("of", justify="right"),
        "refused", box=None, pad_edge=False,
    )  # fmt: skip
    for row in view["windows"]:
        pot = " (reserve)" if row["pot"] == "reserve" else ""
        windows.add_row(
            escape(row["quota"]) + pot,
            escape(row["tenant"] or "all"),
            f"{moment(row['starts_at']).removesuffix(' UTC')} {row['window'] or ''}",
            said(row["meter"], row["spent"], view["currency"]),
            said(row["meter"], row["limit"], view["currency"]),
            "[red]yes[/]" if row["refused_at"] else "no",
        )
    out.print(windows)
    if not view["events"]:
        return
    deeds = Table("when (UTC)", "what", id_column("quota"), "who", "why", box=None, pad_edge=False)
    for event in view["events"]:
        deeds.add_row(
            moment(event["at"]).removesuffix(" UTC"),
            event["kind"].replace("_", " "),
            escape(event["quota"]),
            escape(event["actor"]),
            escape(event["why"]),
        )
    out.print(deeds)
