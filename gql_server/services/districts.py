"""Creates and finds districts, and gives them the contact reasons of the plug-ins (D3, D15)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import execute, fetch, fetchrow, fetchval
from gql_server.domain.changes import Source
from gql_server.domain.reasons import ReasonBits
from gql_server.domain.viewer import District
from gql_server.hooks.host import OwnedReason

ACTOR = "SERVER"
"""The actor of change sets that no person and no import makes: what a server registers when it is set up or started."""
_MAX_DISTRICTS = 10_000
"""How many districts' bits are kept in memory."""


async def find_district(conn: Connection, code: str) -> District | None:
    """Return the district of a code, or None."""
    row = await fetchrow(conn, "district/find", code=code)
    return District(**dict(row.items())) if row else None


async def create_district(
    conn: Connection, code: str, name: str, time_zone: str, reasons: Iterable[OwnedReason]
) -> District:
    """Create a district with its reasons and the default disabled cells (D15). Return an existing district unchanged.

    Call this in a transaction.
    """
    await execute(conn, "district/create", code=code, name=name, time_zone=time_zone)
    district = await find_district(conn, code)
    assert district is not None
    await register_reasons(conn, reasons)
    return district


async def register_reasons(conn: Connection, reasons: Iterable[OwnedReason]) -> int:
    """Give every district a bit for each reason that it lacks (D3), and return how many were added.

    Bits are allocated once and never reused: a reason keeps its bit when its plug-in is removed. A TEACHER reason
    that is new to a district is switched off for every phone (D15). Reasons that a district did not begin with, and
    new words for one, are a change set of source ADMIN and actor SERVER: whoever runs the server made it (D28). Call
    this in a transaction and lock nothing after it.
    """
    owned = list(reasons)
    wanted = {
        "codes": [reason.code for reason in owned],
        "labels": [reason.label for reason in owned],
        "descriptions": [reason.description for reason in owned],
        "plugins": [reason.plugin for reason in owned],
    }
    districts = [row["district_id"] for row in await fetch(conn, "district/differing", **wanted)]
    if not districts:
        return 0  # without a lock: it needs a right that a read-only user does not have
    await execute(conn, "district/lock", districts=districts)
    return int(
        await fetchval(
            conn,
            "district/register_reasons",
            districts=districts,
            **wanted,
            source=Source.ADMIN,
            actor=ACTOR,
        )
    )


@dataclass(frozen=True, slots=True)
class MissingReasons:
    """How many districts lack a bit for a reason of the loaded plug-ins, and the codes of these reasons."""

    districts: int
    codes: Sequence[str]


async def missing_reasons(conn: Connection, reasons: Iterable[OwnedReason]) -> MissingReasons:
    """Return the reasons that `gql-server migrate` would add. Everything else works without them."""
    row = await fetchrow(conn, "district/missing_reasons", codes=[reason.code for reason in reasons])
    assert row is not None
    return MissingReasons(row["districts"], row["codes"])


async def reason_bits(conn: Connection, district_id: int, loaded: Iterable[OwnedReason] = ()) -> ReasonBits:
    """Return the bits of a district's reasons. `loaded`: reasons of the plug-ins, to report which ones are missing."""
    rows = await fetch(conn, "district/reason_bits", district_id=district_id)
    bits = {row["code"]: row["bit"] for row in rows}
    return ReasonBits(bits, (reason.code for reason in loaded))


class KnownReasons:
    """The bits of districts' reasons, read once: a bit is given once and never again (D3).

    loaded: reasons of the plug-ins, to report which ones are missing.
    """

    def __init__(self, loaded: Iterable[OwnedReason]) -> None:
        self._loaded = list(loaded)
        self._bits: dict[int, ReasonBits] = {}

    async def bits(self, db: Database, district_id: int, codes: Iterable[str]) -> ReasonBits:
        """Return the bits of a district. They are read again where one of these codes is not among those known."""
        known = self._bits.get(district_id)
        if known is None or not known.keys() >= set(codes):
            async with db.acquire(district_id) as conn:
                known = await reason_bits(conn, district_id, self._loaded)
            if len(self._bits) >= _MAX_DISTRICTS:
                self._bits.clear()
            self._bits[district_id] = known
        return known


async def analyze_records(conn: Connection) -> None:
    """Let the planner know how much is on record. Call this after a district was filled, outside of the transaction.

    In a transaction the tables would stay locked against another such call until its end.
    """
    await execute(conn, "district/analyze")
