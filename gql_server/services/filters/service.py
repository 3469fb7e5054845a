"""Saves and deletes filters. It is no preference: saving one takes no revision and logs no change (D28)."""

import json

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import execute, fetchval
from gql_server.domain.batch import FilterKind
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.limits import FILTER_NAME
from gql_server.domain.viewer import Role, Viewer
from gql_server.errors import Forbidden, Rejected, UserError, rejected
from gql_server.hooks.host import PluginHost
from gql_server.services.filters.criteria import compile_criteria


class FilterService:
    def __init__(self, db: Database, host: PluginHost) -> None:
        self._db = db
        self._host = host

    async def save(
        self, viewer: Viewer, *, name: str, kind: FilterKind, criteria: object, filter_id: str | None = None
    ) -> int:
        """Create a filter, or change the one named, and return its number.

        Raises Forbidden to all but administrators, and Rejected: INVALID_NAME, INVALID_CRITERIA,
        UNKNOWN_FILTER, WRONG_FILTER_KIND (a filter keeps its kind), NAME_TAKEN (unique in a kind).
        """
        _administrators_only(viewer)
        name = name.strip()
        self._check(name, criteria, kind)
        district_id = viewer.district.district_id
        values = {"district_id": district_id, "name": name, "criteria": json.dumps(criteria)}
        async with self._db.transaction(viewer.district.district_id) as conn:
            await execute(conn, "filter/lock", district_id=district_id)
            if filter_id is None:
                saved = await fetchval(conn, "filter/create", kind=kind, **values)
            else:
                number = await _existing(conn, district_id, filter_id, kind)
                saved = await fetchval(conn, "filter/update", saved_filter_id=number, **values)
        if saved is None:
            words = f"Another {kind} filter has this name. Choose another name, or change that filter."
            raise rejected("NAME_TAKEN", words, "name")
        return int(saved)

    async def delete(self, viewer: Viewer, filter_id: str) -> None:
        """Delete a filter. Runs keep the criteria that they were asked with (D33).

        Raises Forbidden to all but administrators, and Rejected: UNKNOWN_FILTER.
        """
        _administrators_only(viewer)
        key = {
            "district_id": viewer.district.district_id,
            "saved_filter_id": parse_id(IdKind.SAVED_FILTER, filter_id),
        }
        async with self._db.transaction(viewer.district.district_id) as conn:
            if await fetchval(conn, "filter/delete", **key) is None:
                raise _unknown("id")

    def _check(self, name: str, criteria: object, kind: FilterKind) -> None:
        errors: list[UserError] = []
        if not name or FILTER_NAME.problem(name):
            words = f"A name is one line of 1 to {FILTER_NAME.longest} characters, spaces at its ends not counted."
            errors.append(UserError("INVALID_NAME", words, ("name",)))
        try:
            compile_criteria(criteria, kind, self._host)
        except Rejected as refusal:
            errors.extend(refusal.errors)
        if errors:
            raise Rejected(errors)


async def _existing(conn: Connection, district_id: int, filter_id: str, kind: FilterKind) -> int:
    number = parse_id(IdKind.SAVED_FILTER, filter_id)
    saved_kind = await fetchval(conn, "filter/find", district_id=district_id, saved_filter_id=number)
    if number is None or saved_kind is None:
        raise _unknown("filterId")
    if saved_kind != kind:
        words = f"This is a {saved_kind} filter, and its kind stays. Save a new filter instead."
        raise rejected("WRONG_FILTER_KIND", words, "kind")
    return number


def _unknown(*path: str) -> Rejected:
    return rejected("UNKNOWN_FILTER", "There is no such saved filter. List them with `savedFilters`.", *path)


def _administrators_only(viewer: Viewer) -> None:
    if viewer.role is not Role.ADMIN:
        raise Forbidden("Only administrators manage saved filters.")
