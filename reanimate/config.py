"""The settings tree: `reanimate.toml`, then environment, read once at the edge of each process.

Nothing here opens a file other than the settings file itself; where the running parts listen is in `addresses.py`,
generated secrets are in `secrets.py`.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from reanimate.errors import ConfigInvalid
from reanimate.llm_settings import LlmSettings
from reanimate.section import Port, Seconds, Section, Zone
from reanimate.settings_problems import say_problems

__all__ = [
    "PREFECT_NAME",
    "RECORD_NAME",
    "AgentSettings",
    "AlertSettings",
    "BackupSettings",
    "ConfigurationSettings",
    "DatabaseSettings",
    "DependencySettings",
    "GatewaySettings",
    "IncidentSettings",
    "NotifySettings",
    "PostgresDatabase",
    "PostgresSettings",
    "PrefectSettings",
    "RepositorySettings",
    "RestoreSettings",
    "RetentionSettings",
    "Settings",
    "VectorSettings",
    "VectorTarget",
    "WatchSettings",
    "WebSettings",
    "default_home",
    "load_settings",
]


def default_home() -> Path:
    """Return `REANIMATE_HOME`, or the XDG data directory of this user."""
    if home := os.environ.get("REANIMATE_HOME"):
        return Path(home).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "reanimate"


class AgentSettings(Section):
    """The application being protected."""

    name: str = "agent"
    users: Literal["all", "some", "few", "single"] = "all"
    """Who is hit when the agent is out, for the severity table."""


class DatabaseSettings(Section):
    """Our own record. Without a url the embedded Postgres is started."""

    url: SecretStr | None = None
    pg_bin: Path | None = None
    port: Port = 8705


class WebSettings(Section):
    """Alert intake, pages and metrics."""

    host: str = "127.0.0.1"
    port: Port = 8700


class PrefectSettings(Section):
    """The orchestrator. Without an api_url our own server is started on the record's Postgres."""

    api_url: str | None = None
    port: Port = 8704
    pool: str = "reanimate"
    worker: bool = True
    """Start a process worker on the same pool, the fallback when no responder lives."""


class GatewaySettings(Section):
    """The process that the agent's traffic goes through."""

    name: str = "gateway"
    host: str = "127.0.0.1"
    port: Port = 8710
    control_port: Port = 8711
    hang_limit_s: Seconds = 1.0
    """A target that has not begun to answer a read after this long is failed over."""
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """How many answer on the one port. More than one only pays where one is at the limit of its processor."""


class VectorTarget(Section):
    """One vector server. Without a url our standby server is started on `port`: writable, but for role `offline`."""

    name: str
    role: Literal["primary", "replica", "offline", "scratch"]
    """offline: read-only, holds the newest proven backup, asked when nobody else answers. scratch: for proofs only."""
    url: str | None = None
    peers: tuple[str, ...] = ()
    """Of a cluster: the URL of every peer itself, never of a balancer in front of them."""
    api_key: SecretStr | None = None
    port: Port = 0


def _field(target: Any, name: str) -> Any:
    """Return a field of a target that may not be validated yet."""
    return target.get(name) if isinstance(target, dict) else getattr(target, name, None)


class VectorSettings(Section):
    """The vector stores, and what must be in them."""

    targets: tuple[VectorTarget, ...] = (
        VectorTarget(name="primary", role="primary", port=8720),
        VectorTarget(name="replica", role="replica", port=8721),
    )
    offline: bool = True
    """Run an offline standby where no target has that role."""
    collections: tuple[str, ...] = ()
    """Collections or aliases to protect, by exact name or as a glob; empty means every one that has a backup."""
    models: dict[str, str] = Field(default_factory=dict)
    """Collection (or glob) -> name of the embedding model that makes its vectors."""

    @model_validator(mode="before")
    @classmethod
    def _add_offline(cls, given: Any) -> Any:
        """Add the offline standby that nobody has to ask for."""
        if not isinstance(given, dict):
            return given
        targets = given.get("targets", cls.model_fields["targets"].default)
        if not isinstance(targets, list | tuple):
            return given
        if given.get("offline", True) in (False, "false", "0"):
            # Settings from several places are put on top of the defaults, which have one.
            ours = [each for each in targets if _field(each, "role") == "offline" and not _field(each, "url")]
            return {**given, "targets": [each for each in targets if each not in ours]}
        if any(_field(target, "role") == "offline" for target in targets):
            return given
        taken = {_field(target, "name") for target in targets}
        name = "offline" if "offline" not in taken else "offline-standby"
        return {
            **given,
            "targets": [*targets, VectorTarget(name=name, role="offline", port=0 if "targets" in given else 8722)],
        }

    @model_validator(mode="after")
    def _names_are_unique(self) -> "VectorSettings":
        names = [target.name for target in self.targets]
        if len(set(names)) != len(names):
            raise ValueError(f"two vector targets share a name: {names}")
        if sum(target.role == "primary" for target in self.targets) != 1:
            raise ValueError("exactly one vector target must have role = 'primary'")
        if unplaced := [target.name for target in self.targets if target.role == "scratch" and target.url is None]:
            raise ValueError(
                f"the scratch target {unplaced[0]!r} needs a url; without one a server is started per proof"
            )
        return self

    @property
    def serving(self) -> tuple[VectorTarget, ...]:
        """Return the targets that hold the agent's data, the primary first: what is watched, restored and switched."""
        return (self.primary, *self.replicas)

    @property
    def offline_standbys(self) -> tuple[VectorTarget, ...]:
        return tuple(target for target in self.targets if target.role == "offline")

    @property
    def scratch(self) -> VectorTarget | None:
        """Return the server that is set aside for proofs, if one is."""
        return next((target for target in self.targets if target.role == "scratch"), None)

    @property
    def primary(self) -> VectorTarget:
        return next(target for target in self.targets if target.role == "primary")

    @property
    def replicas(self) -> tuple[VectorTarget, ...]:
        return tuple(target for target in self.targets if target.role == "replica")

    def target(self, name: str) -> VectorTarget:
        """Return the target called `name`.

        Raises:
            ConfigInvalid: there is none; the message lists those there are.
        """
        for target in self.targets:
            if target.name == name:
                return target
        known = ", ".join(target.name for target in self.targets)
        raise ConfigInvalid(f"no vector target is called {name!r}", hint=f"configured are: {known}")


class DependencySettings(Section):
    """Another thing the agent needs, watched by an HTTP GET or a TCP connection."""

    name: str
    kind: Literal["llm_provider", "tool", "database"]
    url: str
    """http(s)://… is asked with GET and must answer below 500; tcp://host:port must accept a connection."""


class WatchSettings(Section):
    """Our own probes."""

    port: Port = 8712
    interval_s: Seconds = 1.0
    data_interval_s: Seconds = 5.0
    timeout_s: Seconds = 1.0
    samples: Annotated[int, Field(ge=1)] = 3
    """Failed samples in a row before a dependency counts as down."""
    recovered_after: Annotated[int, Field(ge=1)] = 3
    """Good samples in a row before it counts as up again."""
    min_count_ratio: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Below this share of the newest backup's exact count, data counts as lost."""


class AlertSettings(Section):
    """Who may post alerts. Several secrets at once allow rotation."""

    alertmanager_bearer: tuple[SecretStr, ...] = ()
    alertmanager_basic: tuple[SecretStr, ...] = ()
    """user:password pairs."""
    cloudevents_bearer: tuple[SecretStr, ...] = ()
    cloudevents_hmac: tuple[SecretStr, ...] = ()
    hmac_tolerance_s: Seconds = 300.0
    max_body_bytes: Annotated[int, Field(ge=262_144)] = 1_048_576


class IncidentSettings(Section):
    """How alerts become incidents."""

    window_s: Seconds = 300.0
    """Related alerts within this long of an open incident's last alert join it."""


class NotifySettings(Section):
    """Whom to tell: Apprise URLs (mailto://, slack://, json:// …)."""

    urls: tuple[SecretStr, ...] = ()


class RetentionSettings(Section):
    """How long the backups of one repository are kept."""

    days: Annotated[int, Field(ge=1)] = 7
    """Every backup of the last days."""
    weekly: Annotated[int, Field(ge=0)] = 4
    monthly: Annotated[int, Field(ge=0)] = 12
    grace_days: Annotated[float, Field(ge=0)] = 3.0
    """How long a deleted backup can still be had back."""


class RepositorySettings(Section):
    """One place for backups."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
    url: str
    """file:///path, s3://bucket/prefix, gs://…, az://…"""
    options: dict[str, SecretStr] = Field(default_factory=dict)
    """Of the kind of store: endpoint, region, access_key_id, … The usual environment variables work too."""
    retention: RetentionSettings = RetentionSettings()

    def plain_options(self) -> dict[str, str]:
        """Return the options with their secrets."""
        return {name: value.get_secret_value() for name, value in self.options.items()}


class BackupSettings(Section):
    """Where backups go, when they are taken, and how they are kept."""

    store: str | None = None
    """The URL of the repository that backups are taken into, called `local`; else a folder in the home directory."""
    options: dict[str, SecretStr] = Field(default_factory=dict)
    """Of that store: endpoint, region, access_key_id, …"""
    retention: RetentionSettings = RetentionSettings()
    repositories: tuple[RepositorySettings, ...] = ()
    """Further ones, which get copies."""
    timezone: Zone = "UTC"
    sentinels: Annotated[int, Field(ge=1, le=1000)] = 20
    golden_queries: Annotated[int, Field(ge=1, le=100)] = 20
    snapshot_timeout_s: Seconds = 3600.0
    rpo_s: Seconds = 3600.0
    """Recovery point objective: an alert is raised when the newest backup of something protected is older."""
    partial_every_min: Annotated[int, Field(ge=0, le=1440)] = 15
    """How often a small recovery point is taken between the full backups; 0 means never."""
    partial_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A backup of changes only is taken as long as it is smaller than this share of the full one."""
    proof_expires_days: Annotated[float, Field(gt=0)] = 30.0
    parallel: Annotated[int, Field(ge=1, le=64)] = 2
    """How many backups, proofs or copies go on at once."""
    runner: Literal["local", "dask"] = "local"
    """Where they go on: in the process of their flow run, or on the workers of a Dask cluster."""
    dask_address: str | None = None
    """tcp://host:8786, of the cluster's scheduler."""
    recipients: tuple[str, ...] = ()
    """age recipients (age1…): with any, parts are encrypted to all of them."""
    identities: tuple[Path, ...] = ()
    """Files with age identities that can open them."""
    trusted_keys: tuple[str, ...] = ()
    """Public keys (ed25519:…) of other installations whose backups may be restored here; our own always is."""
    accept_unsigned: bool = False
    """Read manifests that nobody signed, as versions before 0.2 wrote them."""

    @field_validator("partial_every_min")
    @classmethod
    def _cuts_an_hour_or_a_day(cls, minutes: int) -> int:
        if minutes and (60 % minutes if minutes < 60 else minutes % 60 or 24 % (minutes // 60)):
            raise ValueError(f"neither an hour nor a day can be cut into parts of {minutes} minutes; try 15, 30 or 60")
        return minutes

    @model_validator(mode="after")
    def _dask_has_an_address(self) -> "BackupSettings":
        if self.runner == "dask" and not self.dask_address:
            raise ValueError("runner = 'dask' needs dask_address, where the cluster's scheduler listens")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> "BackupSettings":
        names = ["local", *(each.name for each in self.repositories)]
        if len(set(names)) != len(names):
            raise ValueError(f"two repositories share a name (the first is called local): {names}")
        return self

    def all_repositories(self, home: Path) -> tuple[RepositorySettings, ...]:
        """Return every repository, first the one that backups are taken into."""
        url = self.store or f"file://{quote(str((home / 'blobs').absolute()))}"
        local = RepositorySettings(name="local", url=url, options=self.options, retention=self.retention)
        return (local, *self.repositories)


class RestoreSettings(Section):
    """How backups are restored."""

    keep_old_h: Annotated[float, Field(ge=0)] = 72.0
    """How long the collection that was live before a restore is kept beside the restored one."""
    deep_up_to: Annotated[int, Field(ge=0)] = 100_000
    """Up to this many points the ids of a restored collection are read one by one; above, its count and samples are."""


RECORD_NAME = "record"
PREFECT_NAME = "prefect"
"""What our own databases are called among those that are backed up."""


class PostgresDatabase(Section):
    """One database of the agent."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")]
    url: SecretStr
    """postgresql://user:password@host:5432/database"""


class PostgresSettings(Section):
    """The databases to back up. Our own record always is one, called `record`."""

    databases: tuple[PostgresDatabase, ...] = ()
    prefect: bool = False
    """Also back up Prefect's own database, as `prefect`."""
    scratch_url: SecretStr | None = None
    """A server to try dumps on; without one a throwaway server is started for each proof."""
    hash_limit_mb: Annotated[int, Field(ge=1)] = 4096
    """Of a larger table a sample of about this size is hashed, not every row."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> "PostgresSettings":
        names = [RECORD_NAME, PREFECT_NAME, *(database.name for database in self.databases)]
        if len(set(names)) != len(names):
            raise ValueError(f"two databases share a name (ours are called {RECORD_NAME} and {PREFECT_NAME}): {names}")
        return self


class ConfigurationSettings(Section):
    """Which configuration is kept, each change of it as a version."""

    name: str | None = None
    """Of this set; without one, that of the agent. Machines with files of their own need names of their own."""
    files: tuple[str, ...] = ()
    """Files by path or pattern (`*`, `?`, `[…]`, `**`), and whole folders."""
    qdrant: bool = True
    """Also the settings of the vector servers: collections, payload indexes, aliases, placement."""
    max_file_bytes: Annotated[int, Field(gt=0)] = 10_485_760
    """Of a larger file only the versions are kept, not the contents."""

    @field_validator("files")
    @classmethod
    def _paths_are_whole(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for file in files:
            if not Path(file).expanduser().is_absolute():
                raise ValueError(f"{file!r} does not begin with / or ~")
        return files


class Settings(BaseSettings):
    """Everything a person can set. Environment wins over the file: `REANIMATE_WEB__PORT=9000`."""

    model_config = SettingsConfigDict(
        env_prefix="REANIMATE_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    home: Path = Field(default_factory=default_home)
    agent: AgentSettings = AgentSettings()
    database: DatabaseSettings = DatabaseSettings()
    web: WebSettings = WebSettings()
    prefect: PrefectSettings = PrefectSettings()
    gateway: GatewaySettings = GatewaySettings()
    vector: VectorSettings = VectorSettings()
    llm: LlmSettings = LlmSettings()
    dependencies: tuple[DependencySettings, ...] = ()
    watch: WatchSettings = WatchSettings()
    alerts: AlertSettings = AlertSettings()
    incidents: IncidentSettings = IncidentSettings()
    notify: NotifySettings = NotifySettings()
    backups: BackupSettings = BackupSettings()
    restores: RestoreSettings = RestoreSettings()
    postgres: PostgresSettings = PostgresSettings()
    configuration: ConfigurationSettings = ConfigurationSettings()
    # Not `config`: REANIMATE_CONFIG names the settings file.

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, settings_file())


def settings_file() -> Path:
    """Return the settings file in force: `REANIMATE_CONFIG`, else `reanimate.toml` in the home directory."""
    if path := os.environ.get("REANIMATE_CONFIG"):
        return Path(path).expanduser()
    return default_home() / "reanimate.toml"


def _given() -> dict[str, Any]:
    """Return what the file says, as it is."""
    try:
        return tomllib.loads(settings_file().read_text())
    except (OSError, ValueError):
        return {}


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        ConfigInvalid: with every problem found, a line each, and no value of a secret.
    """
    overrides: dict[str, Any] = {}
    if url := os.environ.get("DATABASE_URL"):
        overrides["database"] = {"url": url}
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = say_problems(error.errors(), Settings, _given())
        raise ConfigInvalid(
            f"settings are not usable: {problems}", hint=f"mend {settings_file()} or the environment"
        ) from None
    except ValueError as error:  # a TOML file that does not parse
        raise ConfigInvalid(f"{settings_file()} is not valid TOML: {error}") from None
