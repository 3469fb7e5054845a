"""The number of people who match each saved filter: SQL that is compiled from the filters' criteria."""

import orjson

from gql_server.api.fields import REF
from gql_server.db.statements import fetch
from gql_server.domain.batch import FilterKind
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.sql import Sql
from gql_server.errors import Rejected
from gql_server.reads.links import Args, FilledSlots, PluginPart, ReadContext
from gql_server.services.filters import compile_criteria, fragments_in


async def matches_slots(args: Args, context: ReadContext) -> FilledSlots:
    """Return the expression for `matches`: a CASE with a branch for each saved filter that is selected.

    The expression depends on the criteria, so they are read first, by a statement of their own. A filter that is saved
    between the two statements has no branch, and its `matches` is 0 until the next read. args: those of the field that
    selects the filters.
    """
    async with context.db.acquire(context.viewer.district.district_id) as conn:
        rows = await fetch(
            conn, "filter/list", district_id=context.viewer.district.district_id, **_selected(args)
        )
    branches: list[str] = []
    values: dict[str, object] = {}
    parts: list[PluginPart] = []
    for row in rows:
        number, criteria, kind = (
            int(row["saved_filter_id"]),
            orjson.loads(row["criteria"]),
            FilterKind(row["kind"]),
        )
        counted = _count(criteria, kind, context)
        if counted is not None:
            parts.append(PluginPart(counted, fragments_in(criteria, kind, context.host)))
            counted = counted.renamed(f"filter_{number}")
            branches.append(f"when {number} then ({counted.text})")
            values.update(counted.args)
    text = f"case {{parent}}.saved_filter_id {' '.join(branches)} else 0 end" if branches else "0"
    return FilledSlots({"matches": Sql(text, values)}, tuple(parts))


def _selected(args: Args) -> dict[str, object]:
    """Return which filters to list: the one that `node` or a payload selects, or those of `savedFilters`."""
    if REF in args:
        return {"all_filters": False, "saved_filter_id": args[REF], "kind": None}
    if "id" in args:
        number = parse_id(IdKind.SAVED_FILTER, str(args["id"]))
        return {"all_filters": False, "saved_filter_id": number, "kind": None}
    return {"all_filters": True, "saved_filter_id": None, "kind": args.get("kind")}


def _count(criteria: object, kind: FilterKind, context: ReadContext) -> Sql | None:
    """Return a SELECT of the number of people; None if nobody can be selected by the criteria any more."""
    try:
        predicate = compile_criteria(criteria, kind, context.host)
    except Rejected:  # a field of a plug-in that was removed; no run accepts such a filter either
        return None
    return count_of(predicate)


def count_of(predicate: Sql) -> Sql:
    """Return a SELECT of the number of people who meet the compiled criteria of a filter."""
    counted = Sql("select count(*) from person p where p.district_id = :district_id and ({predicate})")
    return counted.fill(predicate=predicate)
