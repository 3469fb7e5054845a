"""Tokens: signed statements of which district and role a request speaks for."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import OctKey

from gql_server.domain.limits import TOKEN_NAME
from gql_server.domain.viewer import Role
from gql_server.errors import ConfigurationError, Unauthenticated
from gql_server.settings import Settings

ISSUER = "gql-server"
_ALGORITHM = "HS256"
_LEAST_KEY_BYTES = 32
_MOST_TOKEN_CHARACTERS = 4096
_MOST_REMEMBERED = 10_000
_CLOCKS_DIFFER = timedelta(seconds=60)
_LIFETIME = timedelta(days=366)
_MAKE_A_KEY = (
    'Make one with `python -c "import secrets; print(secrets.token_urlsafe(32))"`'
    " and set it as GQL_SERVER_SIGNING_KEY."
)

NEED_A_PERSON = frozenset({Role.STAFF, Role.GUARDIAN, Role.STUDENT})
"""The roles that stand for one person (D23, D25, D27)."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says. `person` is a source id: the district's own id of the person."""

    district: str
    role: Role
    person: str | None
    expires: datetime


class Tokens:
    """Issues and verifies tokens under one key: JSON web tokens, HS256 and nothing else."""

    def __init__(
        self, signing_key: str, *, audience: str | None = None, max_lifetime: timedelta = _LIFETIME
    ) -> None:
        """Take the key, whom tokens are for, if they say so, and the longest time that one may hold.

        Raises ConfigurationError for no key, or one of fewer than 32 bytes.
        """
        if not signing_key:
            raise ConfigurationError(f"There is no signing key. {_MAKE_A_KEY}")
        if len(signing_key.encode()) < _LEAST_KEY_BYTES:
            raise ConfigurationError(
                f"The signing key must have at least {_LEAST_KEY_BYTES} bytes. {_MAKE_A_KEY}"
            )
        self._key = OctKey.import_key(signing_key)
        self._audience, self._max_lifetime = audience, max_lifetime
        self._verified: dict[str, Claims] = {}

    @classmethod
    def of(cls, settings: Settings) -> "Tokens":
        """Return what the settings say. Raises ConfigurationError."""
        return cls(
            settings.signing_key.get_secret_value() if settings.signing_key else "",
            audience=settings.token_audience,
            max_lifetime=timedelta(seconds=settings.token_max_lifetime),
        )

    def issue(self, district: str, role: Role, person: str | None, expires: timedelta) -> str:
        """Return a token that holds from now for `expires`.

        Raises ConfigurationError where the role needs a person and none is given, for a district or person that no
        token can name, and for a time that is longer than the setting allows.
        """
        for name, value in (("district", district), ("person", person)):
            if value and not _is_name(value):
                raise ConfigurationError(
                    f"The {name} of a token is a text of at most {TOKEN_NAME.longest} characters on one line."
                )
        if expires > self._max_lifetime:
            raise ConfigurationError(
                f"A token may hold for {self._max_lifetime.total_seconds():,.0f} s at most."
                " Ask for less, or change GQL_SERVER_TOKEN_MAX_LIFETIME."
            )
        if role in NEED_A_PERSON and not person:
            raise ConfigurationError(f"A token for the role {role.lower()} must name a person.")
        now = int(datetime.now(UTC).timestamp())
        claims: dict[str, Any] = {"iss": ISSUER, "district": district, "role": role.value, "iat": now}
        claims["exp"] = now + int(expires.total_seconds())
        if person:
            claims["person"] = person
        if self._audience:
            claims["aud"] = self._audience
        return jwt.encode({"alg": _ALGORITHM}, claims, self._key)

    def verify(self, token: str) -> Claims:
        """Return what a token says. Raises Unauthenticated where it does not hold.

        Tokens that held are remembered, the oldest forgotten first: checking a signature costs more than
        the rest of a small request's way in.
        """
        claims = self._verified.get(token)
        if claims is None:
            claims = self._decode(token)
            if len(self._verified) >= _MOST_REMEMBERED:
                del self._verified[next(iter(self._verified))]
            self._verified[token] = claims
        if claims.expires <= datetime.now(UTC):
            self._verified.pop(token, None)
            raise Unauthenticated("The token has expired. Get a new one.")
        return claims

    def _decode(self, token: str) -> Claims:
        if not token:
            raise Unauthenticated(
                "The request carries no token. Send one as `Authorization: Bearer <token>`."
            )
        if len(token) > _MOST_TOKEN_CHARACTERS:
            raise Unauthenticated("The token is too long to be one of ours. Get a new one.")
        try:
            decoded = jwt.decode(token, self._key, algorithms=[_ALGORITHM])
        except BadSignatureError:
            raise Unauthenticated("The token was not signed by this server. Get a new one.") from None
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise Unauthenticated("The token cannot be read. Send it whole, or get a new one.") from None
        claims = _claims(decoded.claims)
        self._check(decoded.claims, claims.expires)
        return claims

    def _check(self, payload: dict[str, Any], expires: datetime) -> None:
        """Honour `aud`, `nbf`, `iat` and the longest lifetime. Raises Unauthenticated."""
        audience = payload.get("aud")
        named = audience if isinstance(audience, list) else [] if audience is None else [audience]
        for_others = self._audience not in named if self._audience else bool(named)
        if for_others:
            raise Unauthenticated("The token is for another audience than this server. Get one for it.")
        now = datetime.now(UTC)
        issued, begins = _moment(payload.get("iat")), _moment(payload.get("nbf"))
        if max(issued or now, begins or now) > now + _CLOCKS_DIFFER:
            raise Unauthenticated("The token does not hold yet. Wait, or check the clock of who issued it.")
        if expires - (issued or now) > self._max_lifetime:
            raise Unauthenticated(
                "The token holds for longer than this server allows. Get one for less time."
            )


def _is_name(value: object) -> bool:
    """Tell whether this is a text that can be a code or a source id."""
    return isinstance(value, str) and value != "" and TOKEN_NAME.problem(value) is None


def _moment(seconds: object) -> datetime | None:
    """Return the time of a claim, if there is one. Raises Unauthenticated for what is no time."""
    if seconds is None:
        return None
    try:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise Unauthenticated("The token has a time that is none. Get a new one.") from None


def _claims(payload: object) -> Claims:
    """Return the claims of a signed payload. Raises Unauthenticated where they are not as `issue` writes."""
    unfit = Unauthenticated("The token does not say what this server needs to know. Get a new one.")
    if not isinstance(payload, dict) or payload.get("iss") != ISSUER:
        raise unfit
    district, person, expires = payload.get("district"), payload.get("person"), payload.get("exp")
    if not _is_name(district) or not (person is None or _is_name(person)):
        raise Unauthenticated(
            "The token names a district or a person by what is no name: text of at most"
            f" {TOKEN_NAME.longest} characters on one line. Get a new one."
        )
    if type(expires) is not int:
        raise unfit
    try:
        role = Role(str(payload.get("role")))
        moment = datetime.fromtimestamp(expires, UTC)
    except (ValueError, OverflowError, OSError):
        raise unfit from None
    if role in NEED_A_PERSON and person is None:
        raise unfit
    assert isinstance(district, str)
    return Claims(district, role, person, moment)
