"""Tokens: what is issued holds until it expires, and nothing else holds."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey

from gql_server.api import auth
from gql_server.api.auth import Claims, Tokens
from gql_server.domain.viewer import Role
from gql_server.errors import ConfigurationError, Unauthenticated

KEY = "a key for tests only, long enough to be one"
HOUR = timedelta(hours=1)
SOON = int((datetime.now(UTC) + HOUR).timestamp())
GOOD = {"iss": "gql-server", "district": "maple", "role": "ADMIN", "iat": SOON - 3600, "exp": SOON}


def signed(key: str = KEY, algorithm: str = "HS256", **claims: object) -> str:
    """Return a token with the claims of a good one, changed by those given; None removes one."""
    payload = {name: value for name, value in {**GOOD, **claims}.items() if value is not None}
    written = json.dumps(payload)  # with escapes: a lone surrogate cannot be written otherwise
    return jws.serialize_compact({"alg": algorithm}, written, OctKey.import_key(key), algorithms=[algorithm])


@given(
    district=st.text(min_size=1, max_size=40).filter(str.isprintable),
    role=st.sampled_from(Role),
    person=st.text(min_size=1, max_size=40).filter(str.isprintable),
)
def test_a_token_says_what_was_issued(district: str, role: Role, person: str) -> None:
    """District, role and person come back as they went in, and the end is an hour away."""
    tokens = Tokens(KEY)
    token = tokens.issue(district, role, person, HOUR)
    claims = tokens.verify(token)
    assert (claims.district, claims.role, claims.person) == (district, role, person)
    assert abs(claims.expires - datetime.now(UTC) - HOUR) < timedelta(seconds=5)
    assert Tokens(KEY).verify(token) == claims


@pytest.mark.parametrize("role", sorted(auth.NEED_A_PERSON))
def test_personal_roles_need_a_person(role: Role) -> None:
    """A guardian, a student and a staff member are somebody: without a person no token is issued or accepted."""
    with pytest.raises(ConfigurationError, match="must name a person"):
        Tokens(KEY).issue("maple", role, None, HOUR)
    with pytest.raises(Unauthenticated):
        Tokens(KEY).verify(signed(role=role.value))


def test_an_expired_token_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token ends with its time, also one that was verified before and is remembered."""
    tokens = Tokens(KEY)
    with pytest.raises(Unauthenticated, match="expired"):
        tokens.verify(tokens.issue("maple", Role.ADMIN, None, -HOUR))
    token = tokens.issue("maple", Role.ADMIN, None, HOUR)
    tokens.verify(token)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) + 2 * HOUR

    monkeypatch.setattr(auth, "datetime", Later)
    with pytest.raises(Unauthenticated, match="expired"):
        tokens.verify(token)


def test_a_token_without_a_signature_does_not_hold() -> None:
    """The algorithm `none` is refused, with and without an empty signature."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    unsigned = f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(GOOD)}"
    for token in (f"{unsigned}.", unsigned, f"{unsigned}.{signed().rpartition('.')[2]}"):
        with pytest.raises(Unauthenticated):
            Tokens(KEY).verify(token)


def test_a_changed_token_does_not_hold() -> None:
    """Whatever character of a token is changed, it no longer says anything."""
    token = signed()
    for position in range(len(token) - 1):  # the last character may hold bits that mean nothing
        other = "A" if token[position] != "A" else "B"
        with pytest.raises(Unauthenticated):
            Tokens(KEY).verify(token[:position] + other + token[position + 1 :])


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "é" * 50,
        "\ud800.\ud800.\ud800",
        "." * 5000,
        signed(key="another key for tests, also long enough"),
        signed(algorithm="HS512", key=KEY + KEY),
        signed(role="OWNER"),
        signed(role=None),
        signed(role=["ADMIN"]),
        signed(district=None),
        signed(district=""),
        signed(district=7),
        signed(person=7),
        signed(exp=None),
        signed(exp="tomorrow"),
        signed(exp=True),
        signed(exp=10**30),
        signed(iss="elsewhere"),
        signed(district="map\0le"),
        signed(district="\ud800"),
        signed(district="m" * 201),
        signed(person="P\n1"),
        signed(person="P\0"),
        signed(person=""),
        signed(person="\udfff"),
        signed(iat="yesterday"),
        signed(iat=True),
        signed(nbf=[SOON]),
        signed(nbf=1e300),
        signed(exp=int("9" * 4000)),
        signed(aud="somebody else"),
        signed(aud=["somebody", "else"]),
    ],
)
def test_what_is_not_ours_does_not_hold(token: str) -> None:
    """Nothing but a token of this issuer, key and algorithm, with all its claims, is taken."""
    with pytest.raises(Unauthenticated, match=r"\.$"):
        Tokens(KEY).verify(token)


NOW = SOON - 3600


@pytest.mark.parametrize("claims", [{"iat": SOON}, {"nbf": SOON}, {"nbf": SOON + 0.5, "iat": NOW}])
def test_a_token_does_not_hold_before_its_time(claims: dict[str, object]) -> None:
    """An issue or a beginning in the future is honoured."""
    with pytest.raises(Unauthenticated, match="not valid yet"):
        Tokens(KEY).verify(signed(**claims))


def test_clocks_may_differ_a_little() -> None:
    """A token of a server whose clock is half a minute ahead holds."""
    for claims in ({"iat": NOW + 30}, {"nbf": NOW + 30.5}, {"nbf": NOW - 30}):
        assert Tokens(KEY).verify(signed(**claims)).district == "maple"


def test_a_token_is_for_its_audience() -> None:
    """With an audience set, tokens are issued for it and hold only where they name it, alone or among others."""
    tokens = Tokens(KEY, audience="contacts")
    for good in (
        tokens.issue("maple", Role.ADMIN, None, HOUR),
        signed(aud="contacts"),
        signed(aud=["x", "contacts"]),
    ):
        assert tokens.verify(good).district == "maple"
    for bad in (signed(), signed(aud="x"), signed(aud=[]), signed(aud=["x"]), signed(aud={"contacts": 1})):
        with pytest.raises(Unauthenticated, match="audience"):
            tokens.verify(bad)


def test_a_token_holds_no_longer_than_allowed() -> None:
    """The lifetime has a bound, from the issue to the end; where no issue is told, from now. None longer is issued."""
    tokens = Tokens(KEY, max_lifetime=HOUR)
    assert tokens.verify(signed(iat=NOW + 10)).district == "maple"
    for claims in ({"iat": NOW - 10}, {"exp": SOON + 3600, "iat": None}):
        with pytest.raises(Unauthenticated, match="longer"):
            tokens.verify(signed(**claims))
    with pytest.raises(ConfigurationError, match="GQL_SERVER_TOKEN_MAX_LIFETIME"):
        tokens.issue("maple", Role.ADMIN, None, HOUR * 2)


@pytest.mark.parametrize(
    ("district", "person"),
    [("map\0le", None), ("maple", "P\ud800"), ("m" * 201, None), ("map\u2028le", None)],
)
def test_no_token_is_issued_for_what_is_no_name(district: str, person: str | None) -> None:
    """What no token may say is refused when it is asked for."""
    with pytest.raises(ConfigurationError, match="on one line"):
        Tokens(KEY).issue(district, Role.ADMIN, person, HOUR)


@pytest.mark.parametrize("key", ["", "short", "x" * 31])
def test_a_weak_key_is_refused(key: str) -> None:
    """A key of fewer than 32 bytes is refused with a command that makes one."""
    with pytest.raises(ConfigurationError, match="token_urlsafe"):
        Tokens(key)


def test_memory_for_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remembered tokens make room for new ones, and forgotten ones still hold."""
    monkeypatch.setattr(auth, "_MAX_CACHED", 3)
    tokens = Tokens(KEY)
    issued = [tokens.issue(f"district{n}", Role.ADMIN, None, HOUR) for n in range(9)]
    claims: list[Claims] = [tokens.verify(token) for token in issued * 2]
    assert [claim.district for claim in claims[:9]] == [f"district{n}" for n in range(9)]
    assert len(tokens._verified) == 3
