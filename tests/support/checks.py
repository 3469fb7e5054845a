"""Plug-ins with a rule in Python, and districts large enough to ask it many times."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gql_server.db.statements import resource_folder
from gql_server.hooks import Candidate, Reader, Rule, hookimpl
from gql_server.hooks.host import PluginHost
from tests.support.builder import DistrictBuilder

Check = Callable[[Sequence[Candidate], Reader], Awaitable[Sequence[Any]]]


class Odd:
    """A plug-in with one check."""

    def __init__(self, check: Check) -> None:
        self.check = check

    @hookimpl
    def eligibility_rules(self, request: object) -> list[Rule]:
        return [Rule("looks", "It looks odd.", check=self.check)]


def host_with(check: Check) -> PluginHost:
    return PluginHost([resource_folder("plugins")], given={"odd": Odd(check)})


async def crowd(district: DistrictBuilder, number: int) -> int:
    """Add students with a cell phone, in one go, and return the first one's number."""
    school = await district.school()
    first: int = await district.conn.fetchval(
        "insert into person (district_id, first_name, last_name)"
        " select $1, 'S', n::text from generate_series(1, $2::integer) n returning person_id",
        district.id, number,
    )  # fmt: skip
    await district.conn.execute(
        "insert into enrollment (district_id, person_id, school_id, school_year, grade)"
        " select $1, person_id, $2, 2026, '09' from person where district_id = $1", district.id, school,
    )  # fmt: skip
    await district.conn.execute(
        "insert into contact_point select $1, person_id, 'CELL_PHONE', person_id::text from person"
        " where district_id = $1", district.id,
    )  # fmt: skip
    return first
