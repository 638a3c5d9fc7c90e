"""What the environment sets: every `JETSTREAM_*` variable, read here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jetstream_pipeline.alerts.targets import Targets
from jetstream_pipeline.archive.tokens import check_token
from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.handles.endpoints import (
    PUBLIC_APPVIEW,
    PUBLIC_PLC_DIRECTORY,
    Endpoints,
    check_address,
    parse_server,
)
from jetstream_pipeline.iceberg.setting import check_catalogue
from jetstream_pipeline.jetstream.hosts import PUBLIC_HOSTS, Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.jetstream.transport import Transport, default_transport
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import check_place, parse_place
from jetstream_pipeline.window import Window, parse_time

_PREFIX = "JETSTREAM_"
_T = TypeVar("_T")
_CommaList = Annotated[tuple[str, ...], NoDecode]

MAIN_STREAM = "network"
"""The stream that the settings describe, and that is declared from the start."""
MAIN_COLLECTIONS = (
    "app.bsky.feed.post",
    "app.bsky.feed.like",
    "app.bsky.feed.repost",
    "app.bsky.graph.follow",
    "app.bsky.graph.block",
    "app.bsky.actor.profile",
)


class Settings(BaseSettings):
    """One reading of the environment. `Settings.read()` turns what is wrong into one line."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore")

    data_dir: Path = Field(Path("data"), description="Where all data lies.")
    lake: str = Field(
        "", description="Where the lake lies, instead of in the data directory: a path, or s3://BUCKET/PREFIX and such."
    )
    queues: SecretStr = Field(
        SecretStr(""),
        description="postgresql:// address of the queues of several machines (a secret); where empty, they are files.",
    )
    hosts: _CommaList = Field(
        PUBLIC_HOSTS,
        description="Jetstream hosts in the order of fail-over, comma-separated: names or ws(s):// addresses.",
    )
    collections: _CommaList = Field(
        MAIN_COLLECTIONS,
        description="Collections of the default stream `network`, comma-separated; prefixes as app.bsky.graph.*",
    )
    first_hour: datetime | None = Field(
        None,
        description="First hour (UTC) of the streams that name none: else that of the oldest data, or two days ago.",
    )
    zstd_dictionary: Path | None = Field(
        None, description="File with the v1 hosts' compression dictionary, instead of fetching the public one."
    )
    api_token: SecretStr = Field(
        SecretStr(""), description="Token for the hosts' archives, sent over TLS or within this machine (a secret)."
    )
    settle_minutes: int = Field(5, ge=0, le=59, description="Minutes after an hour's end before it is replayed.")
    look_back_hours: int = Field(
        36, ge=0, le=24 * 3660, description="How long the hosts keep events; younger windows that lack are asked for."
    )
    host_skew_seconds: int = Field(30, ge=0, le=600, description="Seconds by which the hosts' clocks may differ.")
    transport: Transport = Field(
        default_transport(), description="How the hosts' websockets are read: frames, many at once, or websockets."
    )
    keep_runs_days: int | None = Field(
        None, ge=1, le=3660, description="Days after which Dagster's records of ended runs are pruned once a day."
    )
    alert_webhook: SecretStr = Field(
        SecretStr(""), description="Address that is posted to where a window fails or is lost (a secret)."
    )
    alert_recipients: str = Field(
        "", description="E-mail addresses, comma-separated, that are told where a window fails or is lost."
    )
    alert_sender: str = Field("", description="The address that such e-mail comes from.")
    smtp_server: SecretStr = Field(
        SecretStr(""), description="smtp://, smtps:// or smtp+starttls://[USER:PASSWORD@]HOST[:PORT] (a secret)."
    )
    iceberg: SecretStr = Field(
        SecretStr(""),
        description="Iceberg catalogue that the lake's files are registered in: sqlite (a file in the data directory), "
        "postgresql+psycopg://…, https://… (REST), or the name of one of pyiceberg's own configuration (a secret).",
    )
    appview: str = Field(PUBLIC_APPVIEW, description="The AppView that is asked first for the DID of a handle.")
    plc_directory: str = Field(PUBLIC_PLC_DIRECTORY, description="The directory of did:plc documents.")
    dns_server: str = Field(
        "", description="DNS server for handles and their hosts, HOST[:PORT]; where empty, the system's."
    )

    @field_validator("hosts", "collections", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("zstd_dictionary", "keep_runs_days", mode="before")
    @classmethod
    def _none_where_empty(cls, value: object) -> object:
        return value or None

    @field_validator("data_dir", mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        if value == "":
            raise ValueError("name a directory, or leave the variable out")
        return Path(value).expanduser() if isinstance(value, str | Path) else value

    @field_validator("lake")
    @classmethod
    def _check_lake(cls, value: str) -> str:
        _told(lambda: check_place(value))
        return value

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one host")
        _told(lambda: [Host.parse(name) for name in value])
        return value

    @field_validator("collections")
    @classmethod
    def _check_collections(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        _told(lambda: Subscription(collections=value))
        return value

    @field_validator("first_hour", mode="before")
    @classmethod
    def _parse_hour(cls, value: object) -> object:
        if isinstance(value, str) and value:
            moment = _told(lambda: parse_time(value))
            return Window.hour(moment).start
        return value or None

    @field_validator("transport", mode="before")
    @classmethod
    def _parse_transport(cls, value: object) -> object:
        return _told(lambda: Transport.parse(value)) if isinstance(value, str) else value

    @field_validator("queues")
    @classmethod
    def _check_queues(cls, value: SecretStr) -> SecretStr:
        address = value.get_secret_value()
        if address and not address.startswith(("postgresql://", "postgres://")):
            raise ValueError("write postgresql://USER@HOST/DATABASE, or nothing: queues are files then")
        return value

    @field_validator("api_token")
    @classmethod
    def _check_token(cls, value: SecretStr) -> SecretStr:
        _told(lambda: check_token(value.get_secret_value()))
        return value

    @field_validator("iceberg")
    @classmethod
    def _check_catalogue(cls, value: SecretStr) -> SecretStr:
        _told(lambda: check_catalogue(value.get_secret_value()))
        return value

    @field_validator("appview", "plc_directory")
    @classmethod
    def _check_address(cls, value: str) -> str:
        return _told(lambda: check_address(value))

    @field_validator("dns_server")
    @classmethod
    def _check_server(cls, value: str) -> str:
        if value:
            _told(lambda: parse_server(value))
        return value

    @classmethod
    def read(cls) -> Settings:
        """The settings of this process's environment; InvalidInput names the variable that is wrong."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = _PREFIX + str(first["loc"][0] if first["loc"] else "").upper()
            raise InvalidInput(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None

    @property
    def data(self) -> DataDirectory:
        """Where data lies; InvalidInput where that cannot be used."""
        return DataDirectory(self.data_dir, parse_place(self.lake) if self.lake else None)

    @property
    def settle(self) -> timedelta:
        return timedelta(minutes=self.settle_minutes)

    @property
    def look_back(self) -> timedelta:
        return timedelta(hours=self.look_back_hours)

    @property
    def host_skew(self) -> timedelta:
        return timedelta(seconds=self.host_skew_seconds)

    def parsed_hosts(self, instead: Sequence[str] = ()) -> tuple[Host, ...]:
        """The hosts, or those that are named `instead`; InvalidInput for a name that is none."""
        return tuple(Host.parse(name) for name in instead or self.hosts)

    def alert_targets(self) -> Targets:
        """Who is told of failures; InvalidInput where what is set does not name them."""
        try:
            return Targets.parse(
                self.alert_webhook.get_secret_value(),
                self.alert_recipients,
                self.smtp_server.get_secret_value(),
                self.alert_sender,
            )
        except InvalidInput as error:
            raise InvalidInput(f"{_PREFIX}ALERT_*, {_PREFIX}SMTP_SERVER: {error}") from None

    def endpoints(self) -> Endpoints:
        return Endpoints(self.appview, self.plc_directory, self.dns_server or None)


def _told(check: Callable[[], _T]) -> _T:
    """Pydantic turns only a ValueError into a message of its own."""
    try:
        return check()
    except PipelineError as error:
        raise ValueError(str(error)) from None


def described() -> list[tuple[str, str, str]]:
    """Each variable's name, meaning and default (empty: none), for `--help` and the documentation."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = ", ".join(default) if isinstance(default, tuple) else str(default or "")
        rows.append((_PREFIX + name.upper(), field.description or "", shown))
    return rows
