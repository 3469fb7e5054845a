"""Settings: read from the environment, listed without their secrets."""

import pytest

from gql_server.errors import ConfigurationError
from gql_server.settings import Settings, describe, load_settings, unknown_variables, variable


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def listed(settings: Settings) -> dict[str, str]:
    return {setting.variable: setting.value for setting in describe(settings)}


def test_every_setting_is_described() -> None:
    """No setting is listed without words, and every default is usable."""
    settings = list(describe(load_settings()))
    assert all(setting.description.endswith(".") and setting.is_default for setting in settings)
    assert all(setting.variable.startswith("GQL_SERVER_") for setting in settings)
    in_seconds = {setting.variable for setting in settings if setting.description.endswith(" In seconds.")}
    assert in_seconds == {
        variable(name) for name, of in Settings.model_fields.items() if of.annotation is float
    }
    assert {"GQL_SERVER_CHECK_TIMEOUT", "GQL_SERVER_BATCH_PLAN_MAX_AGE"} <= in_seconds


def test_the_environment_overrides_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable sets its field; an empty one counts as not set; lists are split at commas."""
    monkeypatch.setenv("GQL_SERVER_PORT", "9000")
    monkeypatch.setenv("GQL_SERVER_HOST", "")
    monkeypatch.setenv("GQL_SERVER_DISABLED_PLUGINS", "opt_outs, no_contact,")
    settings = load_settings()
    assert (settings.port, settings.host) == (9000, "127.0.0.1")
    assert settings.disabled_plugins == ("opt_outs", "no_contact")


def test_the_signing_key_is_never_shown() -> None:
    """Neither the list nor the settings' own representation shows the key."""
    settings = load_settings(signing_key="open sesame, and then some more of it")
    assert listed(settings)["GQL_SERVER_SIGNING_KEY"] == "********"
    assert "sesame" not in f"{settings!r} {settings} {listed(settings)}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "postgresql://ann:sesame@db.example.org:5433/maple",
            "postgresql://ann:********@db.example.org:5433/maple",
        ),
        ("postgresql://ann@db.example.org/maple", "postgresql://ann@db.example.org/maple"),
        ("postgresql:///maple?user=ann&password=sesame", "postgresql:///maple?********"),
        ("postgresql://ann:sesame@one:5432,two:5432/maple", "********"),
        ("postgres://ann:ses%40me@db/maple", "postgres://ann:********@db/maple"),
        ("postgresql://ann:ses:a=m&e^!@[::1]:5433/maple", "postgresql://ann:********@::1:5433/maple"),
        ("postgresql://ann:@/maple?host=/tmp/sesame", "postgresql://ann@/maple?********"),
    ],
)
def test_a_password_in_the_database_url_is_masked(url: str, shown: str) -> None:
    """The address of the database is shown, its password is not, wherever it stands."""
    settings = load_settings(database_url=url)
    assert listed(settings)["GQL_SERVER_DATABASE_URL"] == shown
    assert "sesame" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:sesa@me/op:en@db/maple",
        "postgresql://ann:sesame#1@db/maple",
        "postgresql://ann:sesame%zz@db/maple",
        "postgresql://ann:[sesame@db/maple",
        "postgresql://ann:sesame?@db/maple",
        "postgresql://ann:1/sesame@db/maple",
        "postgresql://ann:12?sesame=1@db/maple",
        "postgresql://ann:sésame@db/maple",
        "postgresql://ann:ses ame@db/maple",
        "postgresql://ann:sesame",
        "postgresql://db/maple?password=sesa@me",
    ],
)
def test_an_address_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    """A sign in a password that is not escaped could make part of it a host: nothing of the address is repeated."""
    with pytest.raises(ConfigurationError, match="%40") as error:
        load_settings(database_url=url)
    assert not any(part in str(error.value) for part in ("sesa", "sésa", "op:en"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", "eighty"),
        ("port", "70000"),
        ("database_url", "mysql://ann:sesame@db/maple"),
        ("pool_max_size", "1"),
        ("log_level", "LOUD"),
        ("batch_chunk_size", "0"),
        ("statement_timeout", "inf"),
        ("statement_timeout", "1e9"),
        ("lock_timeout", "3000000"),
        ("stop_timeout", "inf"),
        ("stop_timeout", "nan"),
        ("pool_max_size", "1000000"),
        ("batch_workers", "5"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, field: str, value: str
) -> None:
    """The error names the variable and does not repeat its value, which may be a secret."""
    monkeypatch.setenv(variable(field), value)
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    assert variable(field) in str(error.value)
    assert "sesame" not in str(error.value)
    assert error.value.__cause__ is None


def test_a_setting_that_nobody_set_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A default that depends on other settings is no problem of its own where one of those is wrong."""
    monkeypatch.setenv("GQL_SERVER_PORT", "99999")
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert "GQL_SERVER_PORT" in str(refused.value)
    assert "GQL_SERVER_BATCH_WORKERS" not in str(refused.value)


def test_runs_leave_a_connection_to_other_writes() -> None:
    """By default fewer runs are worked on a small pool, so that any size of it can be used."""
    assert [load_settings(pool_min_size=1, pool_max_size=size).batch_workers for size in (2, 4, 5, 10)] == [
        1, 1, 2, 2
    ]  # fmt: skip


def test_a_pool_has_a_connection_beside_that_of_a_plan() -> None:
    """A plan holds one connection while its checks read through another, so there are two at least (D10)."""
    with pytest.raises(ConfigurationError, match=r"GQL_SERVER_POOL_MAX_SIZE.*greater than or equal to 2"):
        load_settings(pool_min_size=1, pool_max_size=1)


def test_misspelt_variables_are_found() -> None:
    """A variable that begins like a setting and is none is reported; other programs' are not."""
    environ = {"GQL_SERVER_PROT": "1", "GQL_SERVER_PORT": "1", "PATH": "/bin"}
    assert unknown_variables(environ) == ["GQL_SERVER_PROT"]
