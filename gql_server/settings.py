"""The settings: environment variables named `GQL_SERVER_…`, with defaults that run on one machine."""

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

from gql_server.domain.slots import write_slot_count
from gql_server.errors import ConfigurationError

PREFIX = "GQL_SERVER_"
Seconds = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
"""A length of time: PostgreSQL and the system take no longer ones."""
_OF_COMMANDS = ("GQL_SERVER_URL", "GQL_SERVER_TOKEN")
"""What `gql-server batch` reads besides."""
_MASK = "********"
_PART = r"(?:[!-~](?<![@:/?#\[\]%&=])|%[0-9A-Fa-f]{2})"
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|(?:[\w.~-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{1,5})?"
_ADDRESS = re.compile(
    rf"postgres(?:ql)?://(?:(?:{_PART}|[&=])*(?::(?:{_PART}|[:&=])*)?@)?{_HOST}(?:,{_HOST})*"
    rf"(?:/(?:{_PART}|[&=])*)?(?:\?(?:\w+=(?:{_PART}|[:/=])*(?:&|$))*)?",
    re.ASCII,
)
"""An address of a database that can be read in one way only."""


def default_data_dir() -> Path:
    """Return the user's data folder; for root one that others may pass through.

    The embedded PostgreSQL never runs as root: it makes itself a user, and opens every folder above its data
    to all users. Root's home folder must not be opened so.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/gql-server")
    return user_data_path("gql-server", appauthor=False)


def _most_workers(connections: int) -> int:
    """Return how many runs may be worked at a time on a pool: a plan holds a connection of those that write."""
    return max(1, write_slot_count(connections) - 1)


class Settings(BaseSettings):
    """Read from the environment once, by the command that starts. Times are in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL to use: postgresql://user:password@host/database. Not set: the embedded one.",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder in which the embedded PostgreSQL keeps its data.",
    )
    signing_key: SecretStr | None = Field(
        None,
        description="Secret of at least 32 bytes that tokens are signed with. `serve` and `token` need it.",
    )
    token_audience: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Whom tokens are for (`aud`). Not set: tokens that name an audience do not hold here.",
    )
    token_max_lifetime: float = Field(
        366 * 24 * 3600,
        gt=0,
        le=100 * 366 * 24 * 3600,
        description="Longest time that a token may hold, from its issue to its end.",
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    max_connections: int = Field(
        2_000, ge=1, description="Connections of clients at a time; more are closed as they come."
    )
    max_connections_per_address: int = Field(
        500,
        ge=1,
        description="Of these, from one address. Behind a proxy all come from its address: then as many as in all.",
    )
    header_timeout: Seconds = Field(
        10, description="How long a client may take to send the line and headers of a request."
    )
    body_timeout: Seconds = Field(30, description="How long a client may take to send the body of a request.")
    keepalive_timeout: Seconds = Field(
        75,
        description="How long a connection is kept between requests; longer than your proxy keeps it.",
    )
    write_timeout: Seconds = Field(
        30, description="How long a client may read nothing of its answer before it is given up."
    )
    stop_timeout: Seconds = Field(
        30, description="How long the server may take to stop after SIGTERM or SIGINT."
    )
    graphiql: bool = Field(False, description="Whether /graphql shows the GraphiQL page to a browser.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level that is logged."
    )
    plugins_dir: Path | None = Field(
        None, description="Folder of the district's own plug-ins, loaded after the built-in ones."
    )
    disabled_plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Names of plug-ins that are not loaded, separated by commas."
    )
    pool_min_size: int = Field(2, ge=0, le=1_000, description="Database connections kept open.")
    pool_max_size: int = Field(
        10,
        ge=1,
        le=1_000,
        description="Database connections opened at most. Half of them may write at a time; one district has at most "
        "about half of them for its reads, and a quarter for its writes.",
    )
    acquire_timeout: Seconds = Field(10, description="How long a request waits for a database connection.")
    statement_timeout: Seconds = Field(
        60,
        description="How long one statement may take; in the plan of a batch, one that holds SQL of a plug-in.",
    )
    lock_timeout: Seconds = Field(
        5, description="How long a statement waits for a lock before the request is answered with BUSY."
    )
    migrate_lock_timeout: Seconds = Field(
        2,
        le=3600,
        description="How long `migrate` waits for a table before it lets others pass and tries again.",
    )
    unnamed_statements: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether SQL is sent as through a pooler that hands connections on after each transaction: "
        "`auto` asks each connection; `never` is for PgBouncer from 1.21 on with max_prepared_statements.",
    )
    max_prepared_bytes: int = Field(
        1_000_000, ge=1_000, description="SQL prepared on a database connection before it is replaced."
    )
    batch_lease_seconds: Seconds = Field(
        30, description="How long a batch run stays with a server that has stopped answering."
    )
    batch_poll_seconds: Seconds = Field(
        1, description="How often a server looks for batch runs left by others."
    )
    batch_watch_seconds: Seconds = Field(
        0.5, description="How often a watched batch run is looked at where no notification tells of it."
    )
    batch_chunk_size: int = Field(
        10_000, ge=1, description="Preference rows that one transaction of a run writes."
    )
    batch_plan_max_age: float = Field(
        24 * 3600,
        gt=0,
        le=366 * 24 * 3600,
        description="Age from which a plan that is applied is reported as outdated.",
    )
    check_timeout: Seconds = Field(
        30,
        description="How long a plug-in's Python rule may take over one chunk of candidates, or beside one write.",
    )
    hook_timeout: Seconds = Field(
        10,
        description="How long the hooks of plug-ins may take when they are asked, and a listener each time it is told.",
    )
    batch_workers: int = Field(
        default_factory=lambda given: min(2, _most_workers(given.get("pool_max_size", 10))),
        ge=1,
        description="Districts whose batch runs one server works at a time; fewer than half of the pool's connections.",
    )
    max_body_bytes: int = Field(1_000_000, ge=1_000, description="Size of the largest request body.")
    max_depth: int = Field(10, ge=1, description="Depth of the deepest query.")
    max_aliases: int = Field(15, ge=0, description="Aliases in one query at most.")
    max_tokens: int = Field(1_000, ge=10, description="Lexical tokens in one query at most.")
    max_selections: int = Field(
        10_000,
        ge=10,
        description="Fields and fragments in one document at most; a fragment's counted each time.",
    )
    max_document_characters: int = Field(
        50_000, ge=1_000, description="Length of the longest document; variables do not count."
    )
    max_page_size: int = Field(100, ge=1, description="Largest `first` of a connection.")
    max_vendor_page_size: int = Field(
        1_000, ge=1, description="Largest `first` of a connection for a vendor."
    )

    max_price: int = Field(
        500_000,
        ge=1,
        description="Largest price of a query, about the rows it may ask for: links times lists.",
    )
    max_portal_price: int = Field(50_000, ge=1, description="The same for guardians, students and staff.")
    max_statement_characters: int = Field(
        90_000, ge=10_000, description="Length of the longest statement that a query may become."
    )
    max_portal_statement_characters: int = Field(
        24_000, ge=10_000, description="The same for guardians, students and staff."
    )
    max_answer_bytes: int = Field(
        4 * 1024 * 1024, ge=1_000, description="Size of the largest answer to a query."
    )
    max_portal_answer_bytes: int = Field(
        1024 * 1024, ge=1_000, description="The same for guardians, students and staff."
    )
    portal_statement_timeout: Seconds = Field(
        5, description="How long one read of a guardian, student or staff member may take."
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
        # What can be read in two ways is not read at all: part of a password would be taken for a host, and shown.
        if not _ADDRESS.fullmatch(value.get_secret_value()):
            raise ValueError(
                "must be postgresql://user:password@host:port/database. In the user's name and the password write"
                " @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, [ as %5B, ] as %5D and % as %25"
            )
        return value

    @model_validator(mode="after")
    def _pool_fits(self) -> "Settings":
        if self.pool_min_size > self.pool_max_size:
            raise ValueError(f"{variable('pool_min_size')} must not exceed {variable('pool_max_size')}")
        most = _most_workers(self.pool_max_size)
        if self.batch_workers > most:
            raise ValueError(
                f"{variable('batch_workers')} must be {most} at most, so that of the connections that may write,"
                f" half of {variable('pool_max_size')}, one is left to everybody else"
            )
        return self


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of the environment. Raises ConfigurationError; it names variables, not values."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = [_problem(e["loc"], e["msg"]) for e in error.errors(include_input=False)]
        raise ConfigurationError(f"The settings cannot be used. {' '.join(problems)}") from None


def variable(field: str) -> str:
    """Return the environment variable of a field."""
    return PREFIX + field.upper()


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the variables that begin like a setting and are none: most likely misspelt."""
    known = {variable(name) for name in Settings.model_fields}
    known.update(_OF_COMMANDS)
    return sorted(name for name in environ if name.upper().startswith(PREFIX) and name.upper() not in known)


@dataclass(frozen=True, slots=True)
class Described:
    """A setting as `gql-server settings` lists it."""

    variable: str
    value: str
    is_default: bool
    description: str


def describe(settings: Settings) -> Iterator[Described]:
    """Yield every setting, secrets masked: the signing key, and the password in the database's address."""
    for name, field in Settings.model_fields.items():
        yield Described(
            variable(name),
            _shown(getattr(settings, name)),
            name not in settings.model_fields_set,
            field.description or "",
        )


def _shown(value: object) -> str:
    if value is None or value == ():
        return "not set"
    if isinstance(value, SecretStr):
        return _masked(value.get_secret_value())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _masked(secret: str) -> str:
    """Mask a secret; of an address keep what is none: a query may hold a password too, and goes whole."""
    try:
        url = urlsplit(secret)
        place = f"{url.hostname or ''}{f':{url.port}' if url.port else ''}"
    except ValueError:
        return _MASK
    if url.scheme not in ("postgresql", "postgres"):
        return _MASK
    who = f"{url.username}:{_MASK}@" if url.password else f"{url.username}@" if url.username else ""
    return f"{url.scheme}://{who}{place}{url.path}{f'?{_MASK}' if url.query else ''}"


def _problem(location: tuple[int | str, ...], message: str) -> str:
    words = message.removeprefix("Value error, ").rstrip(".")
    return f"{variable(str(location[0]))}: {words[:1].lower()}{words[1:]}." if location else f"{words}."
