"""Words that a plug-in's exception says of a fault, without those that may be about a person."""

import re

from gql_server.db.protocols import Database
from gql_server.db.statements import fetch

_HIDDEN = "…"
_LONGEST = 200
_READ = 2_000
_EMAIL = re.compile(r"\S+@\S+")
_NUMBER = re.compile(r"\d(?:[ ()./+-]*\d){4,}")


async def redacted(db: Database, district_id: int, text: str) -> str:
    """Return the first line of a text, at most 200 characters, for administrators and the log; nothing if it says none.

    Hidden are all names, ids and contact points that are on record in the district, in whatever case, and what looks
    like an email address or a number of five digits or more.
    """
    lines = text[:_READ].encode("utf-8", "replace").decode().strip().splitlines()
    line = "".join(filter(str.isprintable, lines[0] if lines else ""))
    async with db.acquire() as conn:
        rows = await fetch(conn, "batch/values_in", district_id=district_id, text=line)
    for value in sorted((row["value"] for row in rows), key=len, reverse=True):
        line = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", _HIDDEN, line, flags=re.IGNORECASE)
    line = _NUMBER.sub(_HIDDEN, _EMAIL.sub(_HIDDEN, line))[:_LONGEST]
    return line if re.search(r"\w", line) else ""
