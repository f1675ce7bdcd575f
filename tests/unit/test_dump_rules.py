"""Rules of Postgres backups: which programs, which names, which backup, what counts as a difference."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reanimate.backups.catalog import DamagedBackup, Published
from reanimate.backups.manifest import Part, Server
from reanimate.backups.marks import Mark, What
from reanimate.dumps.facts import DatabaseFacts, DatabaseProperties, LargeObjects, TableFacts
from reanimate.dumps.login import Login
from reanimate.dumps.manifest import PostgresManifest
from reanimate.dumps.markers import beside_name, kept_name, undone_name
from reanimate.dumps.plan import DatabasePlan, Live, plan_database_restore
from reanimate.dumps.programs import Programs, programs_for_dump, programs_for_restore
from reanimate.dumps.restore import _only_the_parameter
from reanimate.dumps.schema import schema_differences, without_noise
from reanimate.errors import ConfigInvalid, Damaged, NotFound, Refused

TAKEN = datetime(2026, 11, 23, 1, 30, tzinfo=UTC)
NOW = TAKEN + timedelta(hours=5)
LIVE = Live("db:5432", 18, "7", "agent", True, 5_000_000, (), ())


def versions(*numbers: str) -> list[Programs]:
    return [Programs(Path(f"/{number}/bin"), number) for number in numbers]


@pytest.mark.parametrize(
    ("installed", "server", "chosen"),
    [
        (("18.6", "15.18"), 15, "15.18"),
        (("18.6", "15.18"), 16, "18.6"),
        (("18.6", "17.2", "16.1"), 16, "16.1"),
        (("18.6",), 9, "18.6"),
    ],
)
def test_programs__oldest_that_knows_the_server_dumps(installed: Sequence[str], server: int, chosen: str) -> None:
    """The older the program, the more servers can take its dump."""
    assert programs_for_dump(versions(*installed), server).version == chosen


@pytest.mark.parametrize(
    ("installed", "made_by", "server", "chosen"),
    [
        (("18.6", "15.18"), 15, 15, "15.18"),
        (("18.6", "15.18"), 15, 18, "18.6"),
        (("18.6", "15.18"), 18, 15, "18.6"),
        (("18.6", "17.1", "16.4"), 16, 17, "17.1"),
        (("16.4",), 16, 18, "16.4"),
    ],
)
def test_programs__server_s_own_version_restores(
    installed: Sequence[str], made_by: int, server: int, chosen: str
) -> None:
    """It must read the dump; of those that do, the server's own version says nothing that the server does not know."""
    found = programs_for_restore(versions(*installed), made_by=made_by, dumped_from=15, server=server)
    assert found.version == chosen


def test_programs__none_fits() -> None:
    """The message says what is there and what to install; a dump never goes to an older server."""
    with pytest.raises(ConfigInvalid, match=r"needs pg_dump 18 or newer; found 15\.18 in /15\.18/bin; install"):
        programs_for_dump(versions("15.18"), 18)
    with pytest.raises(ConfigInvalid, match="found none"):
        programs_for_dump([], 18)
    with pytest.raises(ConfigInvalid, match="needs pg_restore 18 or newer"):
        programs_for_restore(versions("15.18"), made_by=18, dumped_from=15, server=18)
    with pytest.raises(Refused, match="of Postgres 18, and the server is 15"):
        programs_for_restore(versions("18.6"), made_by=18, dumped_from=18, server=15)


@given(st.text(min_size=1, max_size=80).filter(lambda name: "\0" not in name))
def test_names__fit_the_server_and_keep_apart(database: str) -> None:
    """However long the name, in whatever script: at most 63 bytes, so that the server cuts nothing."""
    database = database.encode("utf-8", "ignore")[:63].decode("utf-8", "ignore") or "x"
    names = {make(database, NOW) for make in (beside_name, kept_name, undone_name)}
    assert len(names) == 3
    assert all(len(name.encode()) <= 63 for name in names)
    assert all(name != database for name in names)
    assert beside_name(database, NOW)[-14:] == f"{NOW:%Y%m%d%H%M%S}"


def test_names__two_long_ones_do_not_meet() -> None:
    """Names that differ after the cut get different names."""
    assert beside_name("x" * 62 + "a", NOW) != beside_name("x" * 62 + "b", NOW)


def test_login__reads_every_form_and_shows_no_password() -> None:
    """SQLAlchemy's URLs, libpq's, and connection strings; the password is for the environment only."""
    for url in (
        "postgresql+psycopg://me:s%40cret@db7:5433/agent?sslmode=require",
        "postgres://me:s%40cret@db7:5433/agent?sslmode=require",
        "host=db7 port=5433 user=me password=s@cret dbname=agent sslmode=require",
    ):
        login = Login.from_url(url)
        assert (login.database, login.where) == ("agent", "db7:5433")
        assert login.environment["PGPASSWORD"] == "s@cret"
        assert "s@cret" not in f"{login.address}{login!r}"
        assert "sslmode=require" in login.address
    assert "dbname='o\\'dd \"x\"'" in Login.from_url("postgresql://h/a").at('o\'dd "x"').address


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://h/x", "is not a Postgres URL"),
        ("postgresql://h", "names no database"),
        ("postgresql://h/x?sslpassword=y", "sslpassword"),
    ],
)
def test_login__unusable(url: str, problem: str) -> None:
    with pytest.raises(ConfigInvalid, match=problem):
        Login.from_url(url, name="agent")


def test_noise__what_a_server_prints_after_reading_its_own_text() -> None:
    """The casts of `x IN ('a', 'b')` on a varchar move; literals, quoted names and other casts are kept."""
    first = "((x)::text = ANY ((ARRAY['a'::character varying, 'b b'::character varying])::text[]))"
    again = "((x)::text = ANY (ARRAY[('a'::character varying)::text, ('b b'::character varying)::text]))"
    assert without_noise(first) == without_noise(again) == "x=ANYARRAY['a','b b']"
    assert without_noise("(n)::integer") != without_noise("(n)::bigint")
    assert without_noise("'a b'") != without_noise("'ab'")
    assert without_noise("'it''s (x)'::text") == "'it''s (x)'"
    assert without_noise('"odd (name)" > 1') == '"odd (name)">1'


def test_differences__are_named() -> None:
    """Between versions, what a server prints is compared by presence; what it stores is compared always."""
    expected = {"relation a": "1", "view v~": "2", "relation gone": "3"}
    found = {"relation a": "9", "view v~": "8", "relation more": "7"}
    assert schema_differences(expected, found, same_version=True) == [
        "relation a is different",
        "relation gone is missing",
        "relation more is too much",
        "view v is different",
    ]
    assert "view v is different" not in schema_differences(expected, found, same_version=False)


def test_pg_restore__only_the_one_error_is_forgiven() -> None:
    """A new pg_restore on an old server: the parameter that the server does not know, and nothing else."""
    error = "pg_restore: error: could not execute query: ERROR: "
    known = f'{error} unrecognized configuration parameter "transaction_timeout"'
    end = "pg_restore: warning: errors ignored on restore: 1"
    assert _only_the_parameter([known, "Command was: SET transaction_timeout = 0;", end])
    assert not _only_the_parameter([known, f"{error} syntax error", end])
    assert not _only_the_parameter([known])
    assert not _only_the_parameter([end])


def facts(**changes: Any) -> DatabaseFacts:
    fields: dict[str, Any] = {
        "database": "agent",
        "server_version": "18.6",
        "server_major": 18,
        "system_id": "7",
        "properties": DatabaseProperties(
            owner="app", encoding="UTF8", collate="C", ctype="C", provider="c", locale=None, icu_rules=None,
            connection_limit=-1, comment=None, settings=[], grants=None,
        ),
        "size_bytes": 8_000_000,
        "table_bytes": 8192,
        "tables": [TableFacts(oid=1, namespace="public", name="t", rows=3, content="5")],
        "sequences": [],
        "large_objects": LargeObjects(count=0, content="0"),
        "extensions": [],
        "extension_tables": [],
        "roles": [],
        "tablespaces": [],
        "schema_objects": {"relation public.t": "1"},
        "rights": {},
        "not_dumped": [],
    }  # fmt: skip
    return DatabaseFacts(**{**fields, **changes})


def published(hours: int, *marks: What, subject: str = "agent", **changes: Any) -> Published[PostgresManifest]:
    key = f"dumps/{subject}/at-{hours}"
    manifest = PostgresManifest(
        id=f"at-{hours}",
        subject=subject,
        target="db:5432",
        taken_at=TAKEN + timedelta(hours=hours),
        tool_version="0.1.0",
        parts=(Part.model_validate({"blob": f"{key}/database.dump", "size": 1000, "sha256": "00" * 32}),),
        server=Server(title="PostgreSQL", version="18.6"),
        made_by="18.6",
        facts=facts(**changes),
    )
    said = tuple(Mark(what, NOW, f"{key}/{what}.json") for what in marks)
    return Published(manifest, f"{key}/manifest.json", "ff" * 32, said)


def plan(*found: Published[PostgresManifest], live: Live = LIVE, **options: Any) -> DatabasePlan:
    return plan_database_restore(found, live, name="agent", now=NOW, **options)


def test_plan__takes_the_newest_and_says_each_step() -> None:
    """By default the newest; what is lost, what is made and what is renamed is said before anything is touched."""
    made = plan(published(2), published(1), damaged=[DamagedBackup("bad", "k", "flipped")])
    assert (made.backup_id, made.rows, made.age_s) == ("at-2", 3, 3 * 3600)
    assert made.new_name == "agent-r20261123063000"
    assert made.kept_name == "agent-before-20261123063000"
    assert "3 h ago" in made.lost
    assert "in one transaction rename agent to agent-before-20261123063000" in made.steps[-2]
    assert [(one.id, one.reason) for one in made.others] == [
        ("bad", "flipped"),
        ("at-1", "an earlier one; a newer is chosen"),
    ]
    assert made.to_json()["taken_at"] == "2026-11-23T03:30:00+00:00"


@pytest.mark.parametrize(
    ("found", "options", "chosen"),
    [
        ([published(2), published(1)], {"at": TAKEN + timedelta(hours=1, minutes=1)}, "at-1"),
        ([published(2), published(1, "proof-passed")], {"newest_proven": True}, "at-1"),
        ([published(2, "proof-failed"), published(1)], {}, "at-1"),
        ([published(2, "deleted"), published(1)], {}, "at-1"),
        ([published(2, server_major=19), published(1)], {}, "at-1"),
        ([published(2, tables=[]), published(1)], {}, "at-1"),
        ([published(2, tables=[])], {}, "at-2"),
        ([published(2, tables=[]), published(1)], {"backup_id": "at-2"}, "at-2"),
        ([published(2, "proof-failed"), published(1)], {"backup_id": "at-2"}, "at-2"),
        ([published(3, subject="other"), published(1)], {}, "at-1"),
    ],
)
def test_plan__passes_over(found: list[Published[PostgresManifest]], options: dict[str, Any], chosen: str) -> None:
    """Too new, unproven, failed, deleted, of a newer server, empty, of another database: each only if asked for."""
    made = plan(*found, **options)
    assert made.backup_id == chosen
    assert all(other.reason for other in made.others)


def test_plan__nothing_fits() -> None:
    """Why not, for each; a backup of another database or a newer server is refused even by its id."""
    with pytest.raises(NotFound, match="its proof failed"):
        plan(published(1, "proof-failed"))
    with pytest.raises(NotFound, match=r"there is none; `reanimate backup postgres run agent`"):
        plan()
    with pytest.raises(NotFound, match="no backup of a database is called 'x'"):
        plan(published(1), backup_id="x")
    with pytest.raises(Refused, match="it is of another database, other"):
        plan(published(1, subject="other"), backup_id="at-1")
    with pytest.raises(Refused, match="the same version or a newer one"):
        plan(published(1, server_major=19), backup_id="at-1")


def test_plan__warns() -> None:
    """Who is connected, another server, another version, what earlier restores left; and our record's own way."""
    live = replace(LIVE, system_id="8", server_major=19, sessions=("app as me (pid 1)",), kept=("agent-before-1",))
    made = plan(published(1), live=live)
    told = " / ".join(made.warnings)
    for words in ("1 session(s)", "not been proven", "another server", "from Postgres 18 to 19", "agent-before-1"):
        assert words in told
    assert any("`reanimate down`" in step for step in plan(published(1), is_record=True).steps)
    assert plan(published(1), live=replace(LIVE, exists=False)).kept_name is None


def test_manifest__has_one_dump() -> None:
    """A manifest whose parts are not a dump is no manifest of a database."""
    document = published(1).manifest.model_dump(mode="json")
    document["parts"] = []
    with pytest.raises(Damaged, match=r"one part called database\.dump"):
        PostgresManifest.from_document(document, where="here")
