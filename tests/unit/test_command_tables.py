"""Tables of the commands: an id can be copied in a terminal of any width."""

import io

from rich.console import Console
from rich.table import Table

from reanimate.commands.output import id_column


def test_table__keeps_its_ids_whole() -> None:
    """The other columns give way."""
    table = Table(id_column("id"), "why", "and why", box=None)
    id_ = "20261126T110528Z-a-rather-long-name-8125"
    table.add_row(id_, "Because_of_this_and_nothing_else" * 2, "words " * 20)
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    assert id_ in out.getvalue()
