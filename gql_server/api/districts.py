"""A cache of districts, so that a request does not need a query to find the district of its token."""

import time

from gql_server.db.protocols import Database
from gql_server.domain.viewer import District
from gql_server.services.districts import find_district

_MAX_AGE_SECONDS = 60
_MAX_DISTRICTS = 10_000


class DistrictCache:
    """Districts by code. An entry is read again after a minute, so that a change of the time zone is noticed."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._cached: dict[str, tuple[float, District]] = {}

    def cached(self, code: str) -> District | None:
        """Return the district with a code if it was read within the last minute, else None."""
        cached = self._cached.get(code)
        return cached[1] if cached is not None and time.monotonic() - cached[0] < _MAX_AGE_SECONDS else None

    async def find(self, code: str) -> District | None:
        """Return the district with a code, or None. Raises Unavailable."""
        if (cached := self.cached(code)) is not None:
            return cached
        now = time.monotonic()
        async with self._db.acquire() as conn:
            district = await find_district(conn, code)
        if district is not None:
            if len(self._cached) >= _MAX_DISTRICTS:
                self._cached.clear()
            self._cached[code] = (now, district)
        return district
