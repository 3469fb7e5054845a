"""Sessions: the viewer that a token identifies, and until when."""

from dataclasses import dataclass
from datetime import UTC, datetime

from gql_server.api.auth import Tokens
from gql_server.api.districts import DistrictCache
from gql_server.domain.viewer import Viewer
from gql_server.errors import Unauthenticated

_MAX_OPENED = 10_000
_MAX_CHARACTERS = 4_200
"""The longest authorization whose session is remembered: a little more than the longest token. Blanks around a token
are allowed, so that an authorization may be as long as a message."""


@dataclass(frozen=True, slots=True)
class Session:
    """A viewer, until their token expires."""

    viewer: Viewer
    expires: datetime

    @property
    def seconds_left(self) -> float:
        return (self.expires - datetime.now(UTC)).total_seconds()


class Sessions:
    """Opens sessions from the value of an `Authorization` header."""

    def __init__(self, tokens: Tokens, districts: DistrictCache) -> None:
        self._tokens, self._districts = tokens, districts
        self._opened: dict[str, Session] = {}

    async def open(self, authorization: str) -> Session:
        """Return the session of a bearer token. Raises Unauthenticated, TimedOut, Unavailable."""
        session = self.opened(authorization)
        if session is None:
            session = await self._open(authorization)
            self._remember(authorization, session)
        return session

    def _remember(self, authorization: str, session: Session) -> None:
        if len(authorization) > _MAX_CHARACTERS:
            return
        if len(self._opened) >= _MAX_OPENED:
            self._opened.clear()
        self._opened[authorization] = session

    def opened(self, authorization: str) -> Session | None:
        """Return a session that was opened before, if its token is still valid and its district still cached."""
        session = self._opened.get(authorization)
        if session is None:
            return None
        district = session.viewer.district
        if self._districts.cached(district.code) is not district or session.expires <= datetime.now(UTC):
            del self._opened[authorization]
            return None
        return session

    async def _open(self, authorization: str) -> Session:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated(
                "The request carries no token. Send one as `Authorization: Bearer <token>`."
            )
        claims = self._tokens.verify(token.strip())
        district = await self._districts.find(claims.district)
        if district is None:
            raise Unauthenticated("The token is for a district that this server does not know.")
        return Session(Viewer(district, claims.role, claims.person), claims.expires)
