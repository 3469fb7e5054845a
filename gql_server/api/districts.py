"""The districts of recent tokens, so that a request needs no statement to find its own."""

import time

from gql_server.db.protocols import Database
from gql_server.domain.viewer import District
from gql_server.services.districts import find_district

_KEEP_SECONDS = 60
_MAX_DISTRICTS = 10_000


class DistrictCache:
    """Districts by code, read again after a minute: a new time zone is seen within it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._found: dict[str, tuple[float, District]] = {}

    async def find(self, code: str) -> District | None:
        """Return the district of a code, or None. Raises Unavailable."""
        now = time.monotonic()
        kept = self._found.get(code)
        if kept is not None and now - kept[0] < _KEEP_SECONDS:
            return kept[1]
        async with self._db.acquire() as conn:
            district = await find_district(conn, code)
        if district is not None:
            if len(self._found) >= _MAX_DISTRICTS:
                self._found.clear()
            self._found[code] = (now, district)
        return district
