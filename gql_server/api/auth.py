"""Tokens: JSON web tokens that state the district, the role and the person that a request acts for."""

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
_MIN_KEY_BYTES = 32
_MAX_TOKEN_CHARACTERS = 4096
_MAX_CACHED = 10_000
_CLOCK_TOLERANCE = timedelta(seconds=60)
_MAX_LIFETIME = timedelta(days=366)
_MAKE_A_KEY = (
    'Make one with `python -c "import secrets; print(secrets.token_urlsafe(32))"`'
    " and set it as GQL_SERVER_SIGNING_KEY."
)

NEED_A_PERSON = frozenset({Role.STAFF, Role.GUARDIAN, Role.STUDENT})
"""The roles that act for one person (D23, D25, D27)."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a token. `person` is a source id: the district's own id of the person."""

    district: str
    role: Role
    person: str | None
    expires: datetime


class Tokens:
    """Issues and verifies tokens with one key. The only algorithm is HS256."""

    def __init__(
        self, signing_key: str, *, audience: str | None = None, max_lifetime: timedelta = _MAX_LIFETIME
    ) -> None:
        """`audience` is the claim `aud` that tokens must have; None for tokens without one.

        Raises ConfigurationError if the key is missing or shorter than 32 bytes.
        """
        if not signing_key:
            raise ConfigurationError(f"There is no signing key. {_MAKE_A_KEY}")
        if len(signing_key.encode()) < _MIN_KEY_BYTES:
            raise ConfigurationError(
                f"The signing key must have at least {_MIN_KEY_BYTES} bytes. {_MAKE_A_KEY}"
            )
        self._key = OctKey.import_key(signing_key)
        self._audience, self._max_lifetime = audience, max_lifetime
        self._verified: dict[str, Claims] = {}

    @classmethod
    def of(cls, settings: Settings) -> "Tokens":
        """Return the tokens that the settings configure. Raises ConfigurationError."""
        return cls(
            settings.signing_key.get_secret_value() if settings.signing_key else "",
            audience=settings.token_audience,
            max_lifetime=timedelta(seconds=settings.token_max_lifetime),
        )

    def issue(self, district: str, role: Role, person: str | None, expires: timedelta) -> str:
        """Return a token that is valid from now for `expires`.

        Raises ConfigurationError if the role needs a person and none is given, if the name of the district or person
        is not valid in a token, or if the lifetime is longer than the setting allows.
        """
        for name, value in (("district", district), ("person", person)):
            if value and not _is_name(value):
                raise ConfigurationError(
                    f"The {name} of a token is a string of at most {TOKEN_NAME.longest} characters on one line."
                )
        if expires > self._max_lifetime:
            raise ConfigurationError(
                f"A token may be valid for {self._max_lifetime.total_seconds():,.0f} s at most."
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
        """Return the claims of a token. Raises Unauthenticated if it is not valid.

        Valid tokens are cached, because verifying a signature costs more than all else that happens before a small
        request is executed. The oldest entry is dropped first.
        """
        claims = self._verified.get(token)
        if claims is None:
            claims = self._decode(token)
            if len(self._verified) >= _MAX_CACHED:
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
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise Unauthenticated("The token is too long to be one of this server. Get a new one.")
        try:
            decoded = jwt.decode(token, self._key, algorithms=[_ALGORITHM])
        except BadSignatureError:
            raise Unauthenticated("The token was not signed by this server. Get a new one.") from None
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise Unauthenticated("The token cannot be read. Send it whole, or get a new one.") from None
        claims = _claims(decoded.claims)
        self._validate(decoded.claims, claims.expires)
        return claims

    def _validate(self, payload: dict[str, Any], expires: datetime) -> None:
        """Validate `aud`, `nbf`, `iat` and the lifetime. Raises Unauthenticated."""
        audience = payload.get("aud")
        audiences = audience if isinstance(audience, list) else [] if audience is None else [audience]
        is_for_another = self._audience not in audiences if self._audience else bool(audiences)
        if is_for_another:
            raise Unauthenticated("The token is for another audience than this server. Get one for it.")
        now = datetime.now(UTC)
        issued, not_before = _moment(payload.get("iat")), _moment(payload.get("nbf"))
        if max(issued or now, not_before or now) > now + _CLOCK_TOLERANCE:
            raise Unauthenticated("The token is not valid yet. Wait, or check the clock of who issued it.")
        if expires - (issued or now) > self._max_lifetime:
            raise Unauthenticated(
                "The token is valid for longer than this server allows. Get one for less time."
            )


def _is_name(value: object) -> bool:
    """Tell whether a value can be the code of a district or the source id of a person."""
    return isinstance(value, str) and value != "" and TOKEN_NAME.text_error(value) is None


def _moment(seconds: object) -> datetime | None:
    """Return the time in a claim, or None without one. Raises Unauthenticated if it is not a time."""
    if seconds is None:
        return None
    try:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise Unauthenticated("The token has a time that cannot be read. Get a new one.") from None


def _claims(payload: object) -> Claims:
    """Return the claims in a verified payload. Raises Unauthenticated if they are not as `issue` writes them."""
    incomplete = Unauthenticated("The token does not say what this server needs to know. Get a new one.")
    if not isinstance(payload, dict) or payload.get("iss") != ISSUER:
        raise incomplete
    district, person, expires = payload.get("district"), payload.get("person"), payload.get("exp")
    if not _is_name(district) or not (person is None or _is_name(person)):
        raise Unauthenticated(
            "The token's district or person is not a valid name: a string of at most"
            f" {TOKEN_NAME.longest} characters on one line. Get a new one."
        )
    if type(expires) is not int:
        raise incomplete
    try:
        role = Role(str(payload.get("role")))
        moment = datetime.fromtimestamp(expires, UTC)
    except (ValueError, OverflowError, OSError):
        raise incomplete from None
    if role in NEED_A_PERSON and person is None:
        raise incomplete
    assert isinstance(district, str)
    return Claims(district, role, person, moment)
