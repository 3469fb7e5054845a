"""Saves and deletes filters. A filter is not a preference: saving one takes no revision and logs no change (D28)."""

import json

from gql_server.db.protocols import Connection, Database
from gql_server.db.statements import execute, fetchval
from gql_server.domain.batch import FilterKind
from gql_server.domain.ids import IdKind, parse_id
from gql_server.domain.limits import FILTER_NAME, MAX_SAVED_FILTERS
from gql_server.domain.viewer import Viewer, require_admin
from gql_server.errors import Rejected, UserError, rejected
from gql_server.hooks.host import PluginHost
from gql_server.services.filters.criteria import compile_criteria


class FilterService:
    """The service behind the mutations `saveFilter` and `deleteFilter`."""

    def __init__(self, db: Database, host: PluginHost) -> None:
        self._db = db
        self._host = host

    async def save(
        self, viewer: Viewer, *, name: str, kind: FilterKind, criteria: object, filter_id: str | None = None
    ) -> int:
        """Create a filter, or change the one of `filter_id`, and return its number.

        Raises Forbidden unless the viewer is an administrator, and Rejected: INVALID_NAME, INVALID_CRITERIA,
        UNKNOWN_FILTER, WRONG_FILTER_KIND (a filter's kind cannot change), NAME_TAKEN (names are unique within a kind),
        TOO_MANY_FILTERS (a new one would be more than can be listed).
        """
        require_admin(viewer, "manage saved filters")
        name = name.strip()
        self._validate(name, criteria, kind)
        district_id = viewer.district.district_id
        values = {"district_id": district_id, "name": name, "criteria": json.dumps(criteria)}
        async with self._db.transaction(viewer.district.district_id) as conn:
            await execute(conn, "filter/lock", district_id=district_id)
            if filter_id is None:
                if await fetchval(conn, "filter/count", district_id=district_id) >= MAX_SAVED_FILTERS:
                    raise _too_many()
                saved = await fetchval(conn, "filter/create", kind=kind, **values)
            else:
                number = await _existing(conn, district_id, filter_id, kind)
                saved = await fetchval(conn, "filter/update", saved_filter_id=number, **values)
        if saved is None:
            message = f"Another {kind} filter has this name. Choose another name, or change that filter."
            raise rejected("NAME_TAKEN", message, "name")
        return int(saved)

    async def delete(self, viewer: Viewer, filter_id: str) -> None:
        """Delete a filter. Recorded runs keep its criteria (D33).

        Raises Forbidden unless the viewer is an administrator, and Rejected: UNKNOWN_FILTER.
        """
        require_admin(viewer, "manage saved filters")
        key = {
            "district_id": viewer.district.district_id,
            "saved_filter_id": parse_id(IdKind.SAVED_FILTER, filter_id),
        }
        async with self._db.transaction(viewer.district.district_id) as conn:
            if await fetchval(conn, "filter/delete", **key) is None:
                raise _unknown()

    def _validate(self, name: str, criteria: object, kind: FilterKind) -> None:
        """Raise Rejected if the name or the criteria are invalid."""
        errors: list[UserError] = []
        if not name or FILTER_NAME.text_error(name):
            message = (
                f"A name is one line of 1 to {FILTER_NAME.longest} characters, without spaces at its ends."
            )
            errors.append(UserError("INVALID_NAME", message, ("name",)))
        try:
            compile_criteria(criteria, kind, self._host)
        except Rejected as rejection:
            errors.extend(rejection.errors)
        if errors:
            raise Rejected(errors)


async def _existing(conn: Connection, district_id: int, filter_id: str, kind: FilterKind) -> int:
    number = parse_id(IdKind.SAVED_FILTER, filter_id)
    saved_kind = await fetchval(conn, "filter/find", district_id=district_id, saved_filter_id=number)
    if number is None or saved_kind is None:
        raise _unknown()
    if saved_kind != kind:
        message = f"This is a {saved_kind} filter, and its kind cannot change. Save a new filter instead."
        raise rejected("WRONG_FILTER_KIND", message, "kind")
    return number


def _too_many() -> Rejected:
    message = (
        f"A district has at most {MAX_SAVED_FILTERS} saved filters. Delete one with `deleteFilter` first."
    )
    return rejected("TOO_MANY_FILTERS", message)


def _unknown() -> Rejected:
    return rejected("UNKNOWN_FILTER", "There is no such saved filter. List them with `savedFilters`.", "id")
