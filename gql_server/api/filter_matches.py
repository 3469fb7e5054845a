"""The number of people who match each saved filter: SQL that is compiled from the filters' criteria."""

from collections.abc import Mapping

import orjson

from gql_server.db.statements import fetch
from gql_server.domain.batch import FilterKind
from gql_server.domain.sql import Sql
from gql_server.errors import Rejected
from gql_server.reads.links import Args, ReadContext
from gql_server.services.filters import compile_criteria


async def matches_slots(args: Args, context: ReadContext) -> Mapping[str, Sql]:
    """Return the expression for `matches`: a CASE with a branch for each saved filter.

    The expression depends on the criteria, so they are read first, by a statement of their own. A filter that is saved
    between the two statements has no branch, and its `matches` is 0 until the next read.
    """
    async with context.db.acquire(context.viewer.district.district_id) as conn:
        rows = await fetch(conn, "filter/list", district_id=context.viewer.district.district_id)
    branches: list[str] = []
    values: dict[str, object] = {}
    for row in rows:
        number = int(row["saved_filter_id"])
        counted = _count(orjson.loads(row["criteria"]), FilterKind(row["kind"]), context)
        counted = counted.renamed(f"filter_{number}")
        branches.append(f"when {number} then {counted.text}")
        values.update(counted.args)
    text = f"case {{parent}}.saved_filter_id {' '.join(branches)} else 0 end" if branches else "0"
    return {"matches": Sql(text, values)}


def _count(criteria: object, kind: FilterKind, context: ReadContext) -> Sql:
    try:
        predicate = compile_criteria(criteria, kind, context.host)
    except Rejected:  # a field of a plug-in that was removed; no run accepts such a filter either
        return Sql("0")
    counted = Sql("(select count(*) from person p where p.district_id = :district_id and ({predicate}))")
    return counted.fill(predicate=predicate)
