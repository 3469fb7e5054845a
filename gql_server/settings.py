"""The settings: environment variables named `GQL_SERVER_…`, with defaults that run on one machine."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gql_server.errors import ConfigurationError

PREFIX = "GQL_SERVER_"
_MASK = "********"


def default_data_dir() -> Path:
    """Return the user's data folder; for root one that others may pass through.

    The embedded PostgreSQL never runs as root: it makes itself a user, and opens every folder above its data
    to all users. Root's home folder must not be opened so.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/gql-server")
    return user_data_path("gql-server", appauthor=False)


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
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
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
    pool_min_size: int = Field(2, ge=0, description="Database connections kept open.")
    pool_max_size: int = Field(10, ge=1, description="Database connections opened at most.")
    acquire_timeout: float = Field(
        10, gt=0, description="How long a request waits for a database connection."
    )
    statement_timeout: float = Field(60, gt=0, description="How long one statement may take.")
    batch_lease_seconds: float = Field(
        30, gt=0, description="How long a batch run stays with a server that has stopped answering."
    )
    batch_poll_seconds: float = Field(
        1, gt=0, description="How often a server looks for batch runs left by others."
    )
    batch_watch_seconds: float = Field(
        0.5, gt=0, description="How often a watched batch run is looked at where no notification tells of it."
    )
    batch_chunk_size: int = Field(
        10_000, ge=1, description="Preference rows that one transaction of a run writes."
    )
    batch_plan_max_age: float = Field(
        24 * 3600, gt=0, description="Age from which a plan that is applied is reported as outdated."
    )
    check_timeout: float = Field(
        30,
        gt=0,
        description="How long a plug-in's Python rule may take over one chunk of candidates, or beside one write.",
    )
    batch_workers: int = Field(2, ge=1, description="Districts whose batch runs one server works at a time.")
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
        110_000, ge=10_000, description="Length of the longest statement that a query may become."
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
    portal_statement_timeout: float = Field(
        5, gt=0, description="How long one read of a guardian, student or staff member may take."
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
        if value is not None and urlsplit(value.get_secret_value()).scheme not in ("postgresql", "postgres"):
            raise ValueError("must begin with postgresql://")
        return value

    @model_validator(mode="after")
    def _pool_fits(self) -> "Settings":
        if self.pool_min_size > self.pool_max_size:
            raise ValueError(f"{variable('pool_min_size')} must not exceed {variable('pool_max_size')}")
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
