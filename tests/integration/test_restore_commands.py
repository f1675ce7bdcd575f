"""`reanimate backup …` and `reanimate restore …` as processes: what they print, and what they do."""

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from qdrant_servers import KEY, NOWHERE, CleanServer, fill, points

from reanimate.config import Settings
from reanimate.doctor.finding import Finding, Level
from reanimate.doctor.restores import leftover_findings


class Commands:
    """Runs `reanimate backup …` and `reanimate restore …` on a home directory of the test's own."""

    def __init__(self, home: Path, urls: list[str], database: str) -> None:
        replace(NOWHERE, vector={"primary": urls[0], "replica": urls[1]}).save(home)
        targets = [{"name": name, "role": name, "api_key": KEY} for name in ("primary", "replica")]
        self.environment = {
            **os.environ,
            "REANIMATE_HOME": str(home),
            "DATABASE_URL": database,
            "REANIMATE_VECTOR__TARGETS": json.dumps(targets),
        }

    async def __call__(self, group: str, *arguments: str, code: int = 0) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            f"from reanimate.commands.{group} import app; app()",
            *arguments,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == code, err.decode()
        return (out if code == 0 else err).decode()


async def test_commands__backup_plan_restore_undo(
    primary: CleanServer, vector_urls: list[str], postgres_url: str, tmp_path: Path
) -> None:
    """The whole way by hand: back up, look, plan, restore, go back; JSON for machines on standard output."""
    await fill(primary.server, primary.name(), 300, alias=primary.name("alias"))
    command, alias = Commands(tmp_path, vector_urls, postgres_url), primary.name("alias")
    assert json.loads(await command("backup", "list", "--json")) == []
    taken = json.loads(await command("backup", "run", alias, "--json"))
    assert (taken["collection"], taken["points"], taken["state"]) == (primary.name(), 300, "published")
    assert [row["id"] for row in json.loads(await command("backup", "list", alias, "--json"))] == [taken["id"]]
    assert json.loads(await command("backup", "show", taken["id"], "--json"))["exact_count"] == 300
    assert "300 (live: 300 before, 300 after" in await command("backup", "show", taken["id"])
    plan = json.loads(await command("restore", "run", "--collection", alias, "--dry-run", "--json"))
    assert (plan["backup_id"], plan["points"]) == (taken["id"], 300)
    assert taken["id"] in await command("restore", "plan", "--collection", alias)
    assert await primary.mine() == [primary.name()]
    done = json.loads(await command("restore", "run", "--collection", alias, "--json"))
    assert await primary.aliases() == {alias: done["name"]}
    undone = json.loads(await command("restore", "undo", "--collection", alias, "--json"))
    assert undone["put_back"] == {alias: primary.name()}
    assert await primary.aliases() == {alias: primary.name()}
    assert "no restore of" in await command("restore", "undo", "--collection", alias, code=1)


async def test_commands__what_they_say_next_can_be_typed(
    primary: CleanServer, vector_urls: list[str], postgres_url: str, tmp_path: Path
) -> None:
    """Names are quoted for the shell, and no way back is offered where no alias was switched."""
    spaced = primary.name("with space")
    await fill(primary.server, primary.name(), 60, alias=spaced)
    command = Commands(tmp_path, vector_urls, postgres_url)
    await command("backup", "run", spaced)
    assert f"undo --collection '{spaced}' --target primary" in await command("restore", "run", "--collection", spaced)
    await command("restore", "undo", "--collection", spaced)
    assert "backup run 'no such'" in await command("restore", "plan", "--collection", "no such", code=1)

    await fill(primary.server, primary.name("bare"), 60)
    await command("backup", "run", primary.name("bare"))
    assert "to go back" not in await command("restore", "run", "--collection", primary.name("bare"))


async def test_commands__errors_are_one_line(
    primary: CleanServer, vector_urls: list[str], postgres_url: str, tmp_path: Path
) -> None:
    """What cannot be done is said in a line with what to do, and exit code 1."""
    command = Commands(tmp_path, vector_urls, postgres_url)
    assert "no such collection or alias" in await command("backup", "run", primary.name("none"), code=1)
    assert "takes one" in await command("restore", "plan", "--collection", primary.name("none"), code=1)
    assert "no published backup" in await command("backup", "show", "nope", code=1)
    assert "is not a time" in await command("restore", "plan", "--collection", "x", "--at", "noon", code=1)


async def test_commands__a_plan_shows_the_choice(
    primary: CleanServer, vector_urls: list[str], postgres_url: str, tmp_path: Path
) -> None:
    """The table says which, why, what is lost and needed, and why not the others."""
    await fill(primary.server, primary.name(), 100, alias=primary.name("alias"))
    command, alias = Commands(tmp_path, vector_urls, postgres_url), primary.name("alias")
    ids = [json.loads(await command("backup", "run", alias, "--json"))["id"] for _ in range(2)]
    shown = await command("restore", "plan", "--collection", alias)
    for part in (
        f"{ids[1]} from local: the newest that holds points",
        "not proven",
        "took last time",
        "its API does not say what is free",
        ids[0],
        "an earlier one; a newer is chosen",
    ):
        assert part in shown
    assert "no proven backup" in await command("restore", "plan", "--collection", alias, "--newest-proven", code=1)
    assert "give one or the other" in await command(
        "restore", "run", "--collection", alias, "--backup", ids[0], "--newest-proven", code=1
    )


async def test_commands__single_points(
    primary: CleanServer, vector_urls: list[str], postgres_url: str, tmp_path: Path
) -> None:
    """Deleted points come back by a filter; a dry run writes nothing; the file takes it back."""
    await fill(primary.server, primary.name(), 60, alias=primary.name("alias"))
    command, alias = Commands(tmp_path, vector_urls, postgres_url), primary.name("alias")
    await command("backup", "run", alias)
    await primary.server.delete_points(alias, [7, 32])
    asked = ("points", "--collection", alias, "--filter", '{"must":[{"key":"year","match":{"value":2007}}]}')
    looked = await command("restore", *asked, "--dry-run")
    assert "2 are not in the live collection" in looked
    assert "nothing was written" in looked
    assert await primary.server.exact_count(alias) == 58
    done = json.loads(await command("restore", *asked, "--json"))
    assert (done["missing"], done["written"]["missing"], done["same"]) == ([7, 32], 2, 1)
    assert await primary.server.exact_count(alias) == 60
    undone = json.loads(await command("restore", "points", "--undo", done["written"]["undo_file"], "--json"))
    assert undone["removed"] == 2
    assert await primary.server.exact_count(alias) == 58
    assert "is not JSON" in await command("restore", "points", "--collection", alias, "--filter", "{", code=1)
    assert "--collection is missing" in await command("restore", "points", "--ids", "1", code=1)


async def test_commands__clearing_up(
    primary: CleanServer, vector_urls: list[str], postgres_url: str, tmp_path: Path
) -> None:
    """Doctor tells of leftovers, sweep shows and removes them, forget says what is kept and how long."""
    await fill(primary.server, primary.name(), 60, alias=primary.name("alias"))
    command, alias = Commands(tmp_path, vector_urls, postgres_url), primary.name("alias")
    await command("backup", "run", alias)
    await primary.server.upsert(primary.name(), points(900, 903))
    done = json.loads(await command("restore", "run", "--collection", alias, "--carry-over", "--json"))
    assert (done["carried"]["added"], done["carried"]["carried"], done["old"]) == (3, 3, [primary.name()])
    strange = f"{primary.name()}-r20200101000000"
    await fill(primary.server, strange, 10)

    (warned,) = [one for one in await _doctor(command) if strange in one.about]
    assert warned.level is Level.WARN
    assert f"--name {strange}" in warned.to_do
    assert "stays" in await command("restore", "sweep")
    assert strange in await primary.mine()
    swept = json.loads(await command("restore", "sweep", "--name", strange, "--json"))
    assert [row["removed"] for row in swept if row["name"] == strange] == [True]
    assert strange not in await primary.mine()
    kept = json.loads(await command("restore", "forget", "--now", "--json"))
    assert [row["fate"] for row in kept if row["name"] == primary.name()] == ["kept"]
    assert "to go back to" in await command("restore", "forget", "--dry-run")
    assert primary.name() in await primary.mine()


async def _doctor(command: Commands) -> list[Finding]:
    settings = Settings(
        home=Path(command.environment["REANIMATE_HOME"]),
        database={"url": command.environment["DATABASE_URL"]},
        vector={"targets": json.loads(command.environment["REANIMATE_VECTOR__TARGETS"])},
    )
    return [finding async for finding in leftover_findings(settings)]
