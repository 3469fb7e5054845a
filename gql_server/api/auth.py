"""Tokens: signed statements of which district and role a request speaks for."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import OctKey

from gql_server.domain.viewer import Role
from gql_server.errors import ConfigurationError, Unauthenticated

ISSUER = "gql-server"
_ALGORITHM = "HS256"
_LEAST_KEY_BYTES = 32
_MOST_TOKEN_CHARACTERS = 4096
_MOST_REMEMBERED = 10_000
_MAKE_A_KEY = (
    'Make one with `python -c "import secrets; print(secrets.token_urlsafe(32))"`'
    " and set it as GQL_SERVER_SIGNING_KEY."
)

NEED_A_PERSON = frozenset({Role.STAFF, Role.GUARDIAN, Role.STUDENT})
"""The roles that stand for one person (D23-D25, D27)."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says. `person` is a source id: the district's own id of the person."""

    district: str
    role: Role
    person: str | None
    expires: datetime


class Tokens:
    """Issues and verifies tokens under one key: JSON web tokens, HS256 and nothing else."""

    def __init__(self, signing_key: str) -> None:
        """Take the key. Raises ConfigurationError for none, or one of fewer than 32 bytes."""
        if not signing_key:
            raise ConfigurationError(f"There is no signing key. {_MAKE_A_KEY}")
        if len(signing_key.encode()) < _LEAST_KEY_BYTES:
            raise ConfigurationError(
                f"The signing key must have at least {_LEAST_KEY_BYTES} bytes. {_MAKE_A_KEY}"
            )
        self._key = OctKey.import_key(signing_key)
        self._verified: dict[str, Claims] = {}

    def issue(self, district: str, role: Role, person: str | None, expires: timedelta) -> str:
        """Return a token that holds from now for `expires`.

        Raises ConfigurationError where the role needs a person and none is given.
        """
        if role in NEED_A_PERSON and not person:
            raise ConfigurationError(f"A token for the role {role.lower()} must name a person.")
        now = int(datetime.now(UTC).timestamp())
        claims: dict[str, Any] = {"iss": ISSUER, "district": district, "role": role.value, "iat": now}
        claims["exp"] = now + int(expires.total_seconds())
        if person:
            claims["person"] = person
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
        return _claims(decoded.claims)


def _claims(payload: object) -> Claims:
    """Return the claims of a signed payload. Raises Unauthenticated where they are not as `issue` writes."""
    unfit = Unauthenticated("The token does not say what this server needs to know. Get a new one.")
    if not isinstance(payload, dict) or payload.get("iss") != ISSUER:
        raise unfit
    district, person, expires = payload.get("district"), payload.get("person"), payload.get("exp")
    if (
        not isinstance(district, str)
        or not district
        or not (person is None or (isinstance(person, str) and person))
    ):
        raise unfit
    if type(expires) is not int:
        raise unfit
    try:
        role = Role(str(payload.get("role")))
        moment = datetime.fromtimestamp(expires, UTC)
    except (ValueError, OverflowError, OSError):
        raise unfit from None
    if role in NEED_A_PERSON and person is None:
        raise unfit
    return Claims(district, role, person, moment)
