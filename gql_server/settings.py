"""The settings: environment variables named `GQL_SERVER_…`. The defaults suit a server on one machine."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gql_server.domain import defaults
from gql_server.domain.slots import write_slot_count
from gql_server.errors import ConfigurationError

PREFIX = "GQL_SERVER_"
MAX_WORKERS = 256
_MIN_POOL = 2
"""Database connections of one process: the plan of a batch holds one, while rules in Python read through another."""
Seconds = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
"""A length of time. PostgreSQL and the operating system do not accept longer ones."""
_COMMAND_VARIABLES = ("GQL_SERVER_URL", "GQL_SERVER_TOKEN")
"""Variables that `gql-server batch` reads and that are not settings."""
_MASK = "********"
_PART = r"(?:[!-~](?<![@:/?#\[\]%&=])|%[0-9A-Fa-f]{2})"
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|(?:[\w.~-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{1,5})?"
_ADDRESS = re.compile(
    rf"postgres(?:ql)?://(?:(?:{_PART}|[&=])*(?::(?:{_PART}|[:&=])*)?@)?{_HOST}(?:,{_HOST})*"
    rf"(?:/(?:{_PART}|[&=])*)?(?:\?(?:\w+=(?:{_PART}|[:/=])*(?:&|$))*)?",
    re.ASCII,
)
"""The URL of a database, without characters that would make it ambiguous."""


def default_data_dir() -> Path:
    """Return the user's data folder, or for root a folder under /var/lib.

    The embedded PostgreSQL never runs as root: it creates a user for itself, and opens every folder above its data to
    all users. Root's home folder must not be opened like that.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/gql-server")
    return user_data_path("gql-server", appauthor=False)


def _most_workers(connections: int) -> int:
    """Return how many runs may be executed at the same time: each plan holds a connection for writes."""
    return max(1, write_slot_count(connections) - 1)


def _default_workers(connections: int) -> int:
    return min(defaults.BATCH_WORKERS, _most_workers(connections))


class Settings(BaseSettings):
    """The settings of one process, read from the environment when a command starts.

    Every number that may have a fraction is a length of time, in seconds; `describe` says so.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(
        None,
        description="URL of the PostgreSQL database: postgresql://user:password@host/database. Not set: the embedded "
        "PostgreSQL is used.",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder in which the embedded PostgreSQL keeps its data.",
    )
    signing_key: SecretStr | None = Field(
        None,
        description="Secret of at least 32 bytes for signing tokens. Required by `serve` and `token`.",
    )
    token_audience: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Audience (`aud`) that tokens must have. Not set: tokens with an audience are refused.",
    )
    token_max_lifetime: float = Field(
        366 * 24 * 3600,
        gt=0,
        le=100 * 366 * 24 * 3600,
        description="Longest lifetime of a token, from its issue to its expiry.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=MAX_WORKERS,
        description="Processes that serve on one port; `serve --workers` has precedence. The maximum of connections, "
        "HTTP and database, is shared equally among them.",
    )
    worker_silence_timeout: Seconds = Field(
        defaults.WORKER_SILENCE_SECONDS,
        ge=1,
        description="How long one of several worker processes may give no sign of life before it is killed and "
        "replaced. Each gives ten in that time, as long as its event loop runs; choose more if a machine is so loaded "
        "that none of them comes through.",
    )
    worker_start_timeout: Seconds = Field(
        defaults.WORKER_START_SECONDS,
        ge=1,
        description="How long one of several worker processes may take from its start until it serves; then it is "
        "killed and tried again. At the first start, at which all load at once, the command ends instead.",
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 chooses a free one.")
    max_connections: int = Field(
        2_000, ge=1, description="Maximum of HTTP connections at the same time; further ones are closed."
    )
    max_connections_per_address: int = Field(
        500,
        ge=1,
        description="Maximum of HTTP connections from one address. Behind a proxy all come from its address: set it "
        "to the same value as GQL_SERVER_MAX_CONNECTIONS.",
    )
    header_timeout: Seconds = Field(
        10, description="How long a client may take to send the request line and headers."
    )
    body_timeout: Seconds = Field(30, description="How long a client may take to send the body of a request.")
    keepalive_timeout: Seconds = Field(
        75,
        description="How long an idle HTTP connection stays open; choose more than your proxy's idle timeout.",
    )
    write_timeout: Seconds = Field(
        30, description="How long a client may stop reading its answer before the connection is closed."
    )
    stop_timeout: Seconds = Field(
        30, description="How long the server may take to stop after SIGTERM or SIGINT; then it is ended."
    )
    graphiql: bool = Field(False, description="Whether /graphql shows the GraphiQL page to a browser.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged."
    )
    plugins_dir: Path | None = Field(
        None, description="Folder of the district's own plug-ins, loaded after the built-in ones."
    )
    disabled_plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Names of plug-ins that are not loaded, separated by commas."
    )
    pool_min_size: int = Field(
        defaults.POOL_MIN_SIZE, ge=0, le=1_000, description="Database connections that are kept open."
    )
    pool_max_size: int = Field(
        default_factory=lambda given: max(defaults.POOL_MAX_SIZE, 5 * given.get("workers", 1)),
        ge=_MIN_POOL,
        le=2_000,
        description="Maximum of database connections of all processes together. Not set: 10, or 5 for each process of "
        "GQL_SERVER_WORKERS if that is more. Half of them may write at the same time. One district may use "
        "about half of them for reads and a quarter for writes.",
    )
    acquire_timeout: Seconds = Field(
        defaults.ACQUIRE_SECONDS, description="How long a request waits for a database connection."
    )
    statement_timeout: Seconds = Field(
        defaults.STATEMENT_SECONDS,
        description="How long one statement may take. In the plan of a batch this limits only statements with a "
        "plug-in's SQL.",
    )
    lock_timeout: Seconds = Field(
        defaults.LOCK_SECONDS,
        description="How long a statement may wait for a lock; then the request is answered with BUSY.",
    )
    migrate_lock_timeout: Seconds = Field(
        defaults.MIGRATE_LOCK_SECONDS,
        le=3600,
        description="How long `migrate` waits for a lock before it lets other transactions run and tries again.",
    )
    unnamed_statements: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether statements are unnamed, as a pooler in transaction mode requires: `auto` tests each "
        "connection for a pooler; `never` is for PgBouncer 1.21 or later with max_prepared_statements.",
    )
    max_prepared_bytes: int = Field(
        defaults.MAX_PREPARED_BYTES,
        ge=1_000,
        description="Bytes of SQL that may be prepared on a database connection before it is replaced. The statements "
        "of queries do not count.",
    )
    max_read_memory: int = Field(
        defaults.MAX_READ_MEMORY,
        ge=0,
        description="Bytes of PostgreSQL's memory that the prepared statements of queries may take on all of the "
        "server's connections together; each connection has an equal share. A query that has no room is planned each "
        "time.",
    )
    batch_lease_seconds: Seconds = Field(
        defaults.LEASE_SECONDS,
        description="How long a batch run stays with a server that no longer renews its lease.",
    )
    batch_poll_seconds: Seconds = Field(
        defaults.BATCH_POLL_SECONDS,
        description="How often a server looks for batch runs that no server is executing.",
    )
    batch_watch_seconds: Seconds = Field(
        defaults.WATCH_SECONDS,
        description="How often the state of a watched batch run is read if no notification arrives.",
    )
    batch_chunk_size: int = Field(
        defaults.CHUNK_SIZE, ge=1, description="Preference rows that a run writes in one transaction."
    )
    batch_plan_max_age: float = Field(
        defaults.PLAN_MAX_AGE,
        gt=0,
        le=366 * 24 * 3600,
        description="A plan that is older than this when it is applied is reported as outdated.",
    )
    check_timeout: Seconds = Field(
        defaults.CHECK_SECONDS,
        description="How long a plug-in's rule in Python may take for one chunk of candidates, or for one write.",
    )
    hook_timeout: Seconds = Field(
        defaults.HOOK_SECONDS,
        description="How long the hooks that one request calls may take together, and each call of a listener.",
    )
    batch_workers: int = Field(
        default_factory=lambda given: _default_workers(given.get("pool_max_size", defaults.POOL_MAX_SIZE)),
        ge=1,
        description="Batch runs that one server executes at the same time, each for another district. Must be less "
        "than half of GQL_SERVER_POOL_MAX_SIZE. Each of several worker processes executes at least one.",
    )
    max_body_bytes: int = Field(1_000_000, ge=1_000, description="Maximum size of a request body.")
    max_depth: int = Field(10, ge=1, description="Maximum depth of a query.")
    max_aliases: int = Field(15, ge=0, description="Maximum of aliases in a query.")
    max_tokens: int = Field(1_000, ge=10, description="Maximum of lexical tokens in a document.")
    max_selections: int = Field(
        10_000,
        ge=10,
        description="Maximum of fields and fragments in a document; a fragment counts each time it is used.",
    )
    max_document_characters: int = Field(
        defaults.MAX_DOCUMENT_CHARACTERS,
        ge=1_000,
        description="Maximum length of a document; variables do not count.",
    )
    max_page_size: int = Field(defaults.MAX_PAGE_SIZE, ge=1, description="Maximum of `first` in a query.")
    max_vendor_page_size: int = Field(1_000, ge=1, description="Maximum of `first` in a vendor's query.")
    max_price: int = Field(
        defaults.MAX_PRICE,
        ge=1,
        description="Maximum price of a query: about the number of rows that it may request.",
    )
    max_portal_price: int = Field(
        50_000, ge=1, description="Maximum price of a query of a guardian, student or staff member."
    )
    max_statement_characters: int = Field(
        defaults.MAX_STATEMENT_CHARACTERS,
        ge=10_000,
        description="Maximum length of the SQL statement for a query.",
    )
    max_portal_statement_characters: int = Field(
        24_000,
        ge=10_000,
        description="Maximum length of the SQL statement for a query of a guardian, student or staff member.",
    )
    max_answer_bytes: int = Field(
        defaults.MAX_ANSWER_BYTES, ge=1_000, description="Maximum size of an answer."
    )
    max_portal_answer_bytes: int = Field(
        1024 * 1024,
        ge=1_000,
        description="Maximum size of an answer to a guardian, student or staff member.",
    )
    portal_statement_timeout: Seconds = Field(
        5, description="How long a query of a guardian, student or staff member may take."
    )

    @field_validator("disabled_plugins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(name.strip() for name in value.split(",") if name.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        # An ambiguous URL is refused: part of the password could be taken for the host, and be shown.
        if not _ADDRESS.fullmatch(value.get_secret_value()):
            raise ValueError(
                "must be postgresql://user:password@host:port/database. In the user's name and the password write"
                " @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, [ as %5B, ] as %5D and % as %25"
            )
        return value

    @model_validator(mode="after")
    def _pool_fits(self) -> "Settings":
        if self.pool_max_size < _MIN_POOL * self.workers:
            raise ValueError(
                f"{variable('pool_max_size')} must be {_MIN_POOL * self.workers} at least: {_MIN_POOL} for each of the"
                f" {self.workers} worker processes"
            )
        if self.pool_min_size > self.pool_max_size:
            raise ValueError(f"{variable('pool_min_size')} must not exceed {variable('pool_max_size')}")
        most = _most_workers(self.pool_max_size)
        if self.batch_workers > most:
            raise ValueError(
                f"{variable('batch_workers')} must be {most} at most: half of {variable('pool_max_size')} may write,"
                " and one of these connections must stay free for other writes"
            )
        return self


def worker_settings(settings: Settings, number: int, port: int) -> Settings:
    """Return the settings of one of several worker processes, from 1: its share of what a server may use.

    Numbers that do not divide are rounded: database connections down, limits of HTTP connections up.
    """
    workers = settings.workers
    connections = settings.pool_max_size // workers
    return settings.model_copy(
        update={
            "workers": 1,
            "port": port,
            "pool_min_size": min(connections, -(-settings.pool_min_size // workers)),
            "pool_max_size": connections,
            "batch_workers": min(
                _most_workers(connections),
                max(1, settings.batch_workers // workers + (number <= settings.batch_workers % workers)),
            ),
            "max_connections": -(-settings.max_connections // workers),
            "max_read_memory": settings.max_read_memory // workers,
            "max_connections_per_address": -(-settings.max_connections_per_address // workers),
        }
    )


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of the environment. Raises ConfigurationError, which names variables but no values."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        # A default that depends on another setting is not made while that one is wrong: no problem of its own.
        found = [e for e in error.errors(include_input=False) if e["type"] != "default_factory_not_called"]
        problems = [_problem(e["loc"], e["msg"]) for e in found]
        raise ConfigurationError(f"The settings cannot be used. {' '.join(problems)}") from None


def variable(field: str) -> str:
    """Return the environment variable of a field."""
    return PREFIX + field.upper()


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the variables that begin like a setting but are not one. They are probably misspelled."""
    known = {variable(name) for name in Settings.model_fields}
    known.update(_COMMAND_VARIABLES)
    return sorted(name for name in environ if name.upper().startswith(PREFIX) and name.upper() not in known)


@dataclass(frozen=True, slots=True)
class SettingDescription:
    """A setting as `gql-server settings` prints it."""

    variable: str
    value: str
    is_default: bool
    description: str


def describe(settings: Settings) -> Iterator[SettingDescription]:
    """Yield every setting. The signing key and the password in the database's URL are masked."""
    for name, field in Settings.model_fields.items():
        yield SettingDescription(
            variable(name),
            _displayed(getattr(settings, name)),
            name not in settings.model_fields_set,
            f"{field.description} In seconds." if field.annotation is float else field.description or "",
        )


def _displayed(value: object) -> str:
    if value is None or value == ():
        return "not set"
    if isinstance(value, SecretStr):
        return _masked(value.get_secret_value())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _masked(secret: str) -> str:
    """Mask a secret. Of a URL mask the password and the whole query, which may hold a password too."""
    try:
        url = urlsplit(secret)
        host = f"{url.hostname or ''}{f':{url.port}' if url.port else ''}"
    except ValueError:
        return _MASK
    if url.scheme not in ("postgresql", "postgres"):
        return _MASK
    user = f"{url.username}:{_MASK}@" if url.password else f"{url.username}@" if url.username else ""
    return f"{url.scheme}://{user}{host}{url.path}{f'?{_MASK}' if url.query else ''}"


def _problem(location: tuple[int | str, ...], message: str) -> str:
    sentence = message.removeprefix("Value error, ").rstrip(".")
    return (
        f"{variable(str(location[0]))}: {sentence[:1].lower()}{sentence[1:]}." if location else f"{sentence}."
    )
