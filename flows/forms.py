"""The types of the forms that people fill in to start a flow. Prefect refuses what does not fit before a run exists."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

__all__ = [
    "BackupChoice",
    "BackupId",
    "BackupScope",
    "CollectionName",
    "Component",
    "IncidentId",
    "RepositoryName",
    "ScheduleName",
    "Summary",
    "TargetName",
]

IncidentId = Annotated[
    str,
    Field(pattern=r"^inc-\d{8}-\d{6}-[0-9a-f]{4,16}$", title="Incident", examples=["inc-20261122-031502-9f3a"]),
]

Component = Annotated[
    str,
    Field(pattern=r"^((vector|llm|tool|database):[A-Za-z0-9_.-]{1,60}|unknown)$", examples=["vector:primary"]),
]

BackupId = Annotated[str, Field(pattern=r"^\d{8}T\d{6}Z-[A-Za-z0-9_-]{1,60}$")]

CollectionName = Annotated[str, Field(pattern=r"^[^/{}\s]{1,200}$")]

TargetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]

RepositoryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]

ScheduleName = Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,39}$")]

Summary = Annotated[str, Field(min_length=3, max_length=200)]


class BackupChoice(StrEnum):
    """Which backup is restored when none is named."""

    NEWEST = "newest"  # that can be used
    NEWEST_PROVEN = "newest-proven"


class BackupScope(StrEnum):
    """Which collections a backup takes when none is named."""

    PROTECTED = "protected"  # those that the settings name
    ALL = "all"  # every collection on the server
