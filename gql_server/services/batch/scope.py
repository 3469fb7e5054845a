"""Checks a mode and a scope, and turns them into what the mode's plug-in takes (D11, D12)."""

import json

from gql_server.db.protocols import Connection
from gql_server.db.statements import fetch, fetchrow
from gql_server.domain.batch import FilterKind
from gql_server.domain.ids import IdKind, encode_id, parse_id
from gql_server.domain.sql import Sql
from gql_server.domain.viewer import District
from gql_server.errors import Rejected, UserError, rejected
from gql_server.hooks import BatchMode, Scope
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.request import ScopeInput
from gql_server.services.filters import compile_criteria, storable


async def resolve_scope(
    conn: Connection, district: District, host: PluginHost, mode: str, scope: ScopeInput
) -> Scope:
    """Return the scope with internal ids and the filter as SQL. Runs no statement without schools or filter.

    `school_year` stays None where it is not given: the mode's SQL finds the current one (D12).
    Raises Rejected with all problems at once: UNKNOWN_MODE, UNKNOWN_SCHOOL, UNKNOWN_FILTER,
    WRONG_FILTER_KIND, FILTER_REQUIRED, GRADES_NOT_ALLOWED; or, before any statement, those of
    `ScopeInput.excesses`. Malformed, foreign and unknown ids are the same error.
    """
    if excesses := scope.excesses():
        raise Rejected(excesses)
    owned = host.modes.get(mode)
    errors: list[UserError] = []
    school_ids = await _schools(conn, district, scope, errors)
    if owned is None:
        modes = ", ".join(host.modes)
        errors.append(
            UserError("UNKNOWN_MODE", f"There is no mode {mode[:40]!r}. Use one of {modes}.", ("mode",))
        )
        raise Rejected(errors)
    if scope.grades is not None and not owned.mode.grades:
        words = f"The mode {mode} takes no grades. Leave them out."
        errors.append(UserError("GRADES_NOT_ALLOWED", words, ("scope", "grades")))
    predicate = None
    try:
        predicate = await _filter(conn, district, host, owned.mode, scope.filter_id)
    except Rejected as rejection:
        errors.extend(rejection.errors)
    if errors:
        raise Rejected(errors)
    # A text that PostgreSQL cannot hold is no school's grade.
    grades = None if scope.grades is None else tuple(filter(storable, scope.grades))
    return Scope(school_ids, scope.school_year, grades, predicate)


def dump_scope(scope: ScopeInput) -> str:
    """Return a scope that was resolved as JSON with internal ids, as `batch_run.scope` keeps it."""
    return json.dumps(
        {
            "schoolIds": None
            if scope.school_ids is None
            else [parse_id(IdKind.SCHOOL, text) for text in scope.school_ids],
            "schoolYear": scope.school_year,
            "grades": None if scope.grades is None else [text for text in scope.grades if storable(text)],
            "filterId": None if scope.filter_id is None else parse_id(IdKind.SAVED_FILTER, scope.filter_id),
        }
    )


def load_scope(text: str) -> ScopeInput:
    """Return the scope that `dump_scope` wrote, to be resolved anew."""
    kept = json.loads(text)
    school_ids, grades, filter_id = kept["schoolIds"], kept["grades"], kept["filterId"]
    return ScopeInput(
        school_ids=None if school_ids is None else tuple(encode_id(IdKind.SCHOOL, n) for n in school_ids),
        school_year=kept["schoolYear"],
        grades=None if grades is None else tuple(grades),
        filter_id=None if filter_id is None else encode_id(IdKind.SAVED_FILTER, filter_id),
    )


async def _schools(
    conn: Connection, district: District, scope: ScopeInput, errors: list[UserError]
) -> tuple[int, ...] | None:
    if scope.school_ids is None:
        return None
    numbers = [parse_id(IdKind.SCHOOL, text) for text in scope.school_ids]
    rows = await fetch(conn, "batch/schools", district_id=district.district_id, school_ids=numbers)
    known = {row["school_id"] for row in rows}
    for index, number in enumerate(numbers):
        if number not in known:
            words = f"There is no school {scope.school_ids[index][:40]!r}. Use ids that `schools` lists."
            errors.append(UserError("UNKNOWN_SCHOOL", words, ("scope", "schoolIds", str(index))))
    return tuple(number for number in numbers if number is not None)


async def _filter(
    conn: Connection, district: District, host: PluginHost, mode: BatchMode, filter_id: str | None
) -> Sql | None:
    """Return the predicate of a saved filter, or None where none is named. Raises Rejected."""
    path = ("scope", "filterId")
    if filter_id is None:
        if mode.filter_required:
            words = f"The mode {mode.code} needs a saved {mode.filter_kind} filter. Name one."
            raise rejected("FILTER_REQUIRED", words, *path)
        return None
    number = parse_id(IdKind.SAVED_FILTER, filter_id)
    row = await fetchrow(conn, "batch/filter", district_id=district.district_id, saved_filter_id=number)
    if row is None:
        words = f"There is no filter {filter_id[:40]!r}. Use an id that `savedFilters` lists."
        raise rejected("UNKNOWN_FILTER", words, *path)
    if row["kind"] != mode.filter_kind:
        words = f"The mode {mode.code} takes a {mode.filter_kind} filter, and this is a {row['kind']} filter."
        raise rejected("WRONG_FILTER_KIND", words, *path)
    return compile_criteria(json.loads(row["criteria"]), FilterKind(row["kind"]), host)
