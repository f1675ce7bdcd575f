"""What prefect.yaml deploys, and how it is fitted to an installation."""

from pathlib import Path

import pytest

from deployments.catalogue import deployments, document
from deployments.provision import fitted, pool_template
from reanimate.config import BackupSettings, PrefectSettings, Settings
from tasks.schedules import schedules

SETTINGS = Settings(
    home=Path("/var/lib/reanimate"),
    backups=BackupSettings(timezone="Europe/Berlin"),
    prefect=PrefectSettings(pool="mine"),
)


def test_deployments__every_entrypoint_imports() -> None:
    """Each entry names a flow that is there; names are unique."""
    names = [deployment.full_name for deployment in deployments()]
    assert names == [
        "respond/incident",
        "detection/incident",
        "containment/incident",
        "recovery/incident",
        "postmortem/incident",
        "open-incident/by-hand",
        "night/everything",
        "backup/collections",
        "restore/collection",
        "retain/repositories",
        "prove/proofs",
        "keep-config/versions",
    ]


@pytest.mark.parametrize("deployment", deployments(), ids=lambda deployment: deployment.entrypoint)
def test_deployments__every_flow_is_async_and_says_what_it_does(deployment) -> None:  # type: ignore[no-untyped-def]
    """A synchronous flow costs up to a second at its end, and an undescribed one is a form that nobody understands."""
    flow = deployment.flow()
    assert flow.isasync
    assert flow.description
    assert all("description" in field for field in flow.parameters.properties.values())


def test_prefect_yaml__schedules_say_their_time_zone() -> None:
    """At two each night, on Sunday at three, and every few minutes, in a zone that is written down."""
    schedules = {item["slug"]: item for entry in document()["deployments"] for item in entry.get("schedules", ())}
    assert {slug: (item["cron"], item["timezone"]) for slug, item in schedules.items()} == {
        "nightly": ("0 2 * * *", "UTC"),
        "weekly": ("0 3 * * 0", "UTC"),
        "partial": ("*/15 * * * *", "UTC"),
        "versions": ("*/5 * * * *", "UTC"),
    }


def test_prefect_yaml__every_form_is_enforced() -> None:
    """Prefect refuses what does not fit a form before a run exists."""
    assert all(entry["enforce_parameter_schema"] is True for entry in document()["deployments"])


def test_fitted__puts_in_this_installations_zone_and_pool() -> None:
    """The settings decide where runs go and which clock schedules follow; the rest is prefect.yaml's."""
    plan = fitted(document(), SETTINGS)
    assert {entry["work_pool"]["name"] for entry in plan["deployments"]} == {"mine"}
    zones = {item["slug"]: item["timezone"] for entry in plan["deployments"] for item in entry["schedules"]}
    assert (zones["nightly"], zones["weekly"]) == ("Europe/Berlin", "Europe/Berlin")
    assert zones["partial"] == "UTC", "in another zone, Prefect would leave out the hour that occurs twice"
    assert document() != plan, "the file itself is untouched"


def test_fitted__the_pace_of_partial_backups_is_a_setting() -> None:
    """Every so many minutes, or never."""

    def crons(minutes: int) -> dict[str, str]:
        settings = Settings(home=SETTINGS.home, backups=BackupSettings(partial_every_min=minutes))
        plan = fitted(document(), settings)
        return {item["slug"]: item["cron"] for entry in plan["deployments"] for item in entry["schedules"]}

    assert crons(5)["partial"] == "*/5 * * * *"
    assert "partial" not in crons(0)
    with pytest.raises(ValueError, match="25 minutes"):
        crons(25)


def test_schedules__name_themselves_in_what_they_start() -> None:
    """So a run knows which slots are its own; what it starts is a flow that takes the parameters it is given."""
    flows = {deployment.entrypoint: deployment.flow() for deployment in deployments()}
    for schedule in schedules(SETTINGS).values():
        if "schedule" in flows[schedule.entrypoint].parameters.properties:
            assert schedule.parameters["schedule"] == schedule.name
        assert set(schedule.parameters) <= set(flows[schedule.entrypoint].parameters.properties)
    assert schedules(SETTINGS)["nightly"].zone == "Europe/Berlin"


def test_pool_template__has_no_secret() -> None:
    """What Prefect stores and shows names paths, not passwords."""
    variables = pool_template(SETTINGS)["variables"]["properties"]
    assert set(variables["env"]["default"]) == {"PYTHONPATH", "REANIMATE_HOME"}
