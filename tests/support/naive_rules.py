"""Who may see what, and who is meant: plain Python over lists of rows.

Written from the rules of the domain (D1-D12, D23, D27) and from the descriptions in the schema, not from the
product's SQL, so that each can be held against the other.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from gql_server.db.protocols import Connection
from gql_server.domain.viewer import Role, Viewer
from gql_server.errors import Rejected, UserError
from gql_server.hooks.host import PluginHost

Row = dict[str, Any]
Tables = dict[str, list[Row]]

FILTER_KINDS = {"STUDENT_CONTACTS": "STUDENT", "STUDENTS": "STUDENT", "CENSUS_STAFF": "CENSUS"}


async def load_tables(conn: Connection, district_id: int) -> Tables:
    """Return every row of a district, by table."""
    names = await conn.fetch(
        "select table_name from information_schema.columns"
        " where table_schema = 'public' and column_name = 'district_id' order by 1"
    )
    tables = {}
    for row in names:
        query = f'select * from "{row["table_name"]}" where district_id = $1'
        tables[row["table_name"]] = [dict(each.items()) for each in await conn.fetch(query, district_id)]
    for saved in tables["saved_filter"]:
        saved["criteria"] = json.loads(saved["criteria"])
    return tables


class Eyes:
    """One viewer's view of a district's rows."""

    def __init__(self, tables: Tables, viewer: Viewer, host: PluginHost, max_first: int = 100) -> None:
        self.tables, self.viewer, self.host, self.max_first = tables, viewer, host, max_first
        self.today = viewer.district.today()
        self.everything = viewer.role in (Role.ADMIN, Role.VENDOR)
        mine = [p["person_id"] for p in tables["person"] if p["source_id"] == viewer.person_source_id]
        self.me: int | None = mine[0] if mine and viewer.person_source_id is not None else None
        self.students = self._students()

    def rows(self, table: str, **key: object) -> list[Row]:
        return [row for row in self.tables[table] if all(row[name] == value for name, value in key.items())]

    def active(self, row: Row, day: date | None = None) -> bool:
        """Start ≤ today, or another day, ≤ end, a missing one being open (D6)."""
        start, end, day = row["start_date"], row["end_date"], day or self.today
        return (start is None or start <= day) and (end is None or day <= end)

    def active_rows(self, table: str, **key: object) -> list[Row]:
        return [row for row in self.rows(table, **key) if self.active(row)]

    # ── D27 ─────────────────────────────────────────────────────────────────────────────────────

    def _students(self) -> set[int]:
        """The students a portal user is a contact of; one no-contact mark outweighs every other tie."""
        if self.me is None or self.viewer.role not in (Role.GUARDIAN, Role.STUDENT):
            return set()
        ties = self.active_rows("relationship", contact_id=self.me)
        barred = {tie["student_id"] for tie in ties if tie["no_contact"]}
        return {tie["student_id"] for tie in ties} - barred

    def is_me(self, person_id: int | None) -> bool:
        return self.me is not None and person_id == self.me

    def own(self, person_id: int | None) -> bool:
        """Whether rows that are for the person's own eyes may be shown."""
        return self.everything or self.is_me(person_id)

    def own_or_student(self, person_id: int | None) -> bool:
        return self.own(person_id) or person_id in self.students

    def households_of(self, person_id: int | None, day: date | None = None) -> set[int]:
        members = self.rows("household_member", person_id=person_id)
        return {m["household_id"] for m in members if self.active(m, day)}

    def own_households(self) -> set[int]:
        return set() if self.me is None else self.households_of(self.me)

    def sees_household(self, household_id: int | None) -> bool:
        theirs = self.own_households().union(*map(self.households_of, self.students))
        return self.everything or household_id in theirs

    def sees_membership(self, row: Row) -> bool:
        return self.everything or (self.own_or_student(row["person_id"]) and self.active(row))

    def sees_relationship(self, row: Row) -> bool:
        mine = self.is_me(row["contact_id"]) and row["student_id"] in self.students
        return self.everything or (mine and self.active(row))

    def sees_opt_out(self, row: Row) -> bool:
        return self.everything or (self.me is not None and row["address"] in self.addresses(self.me))

    def addresses(self, person_id: int) -> set[str]:
        """The values of a person's contact points, and the phones of the households they are a member of."""
        own = {c["value"] for c in self.rows("contact_point", person_id=person_id)}
        homes = self.households_of(person_id)
        return own | {
            h["phone"] for h in self.tables["household"] if h["household_id"] in homes and h["phone"]
        }

    # ── who is meant ────────────────────────────────────────────────────────────────────────────

    def is_active_person(self, person_id: int) -> bool:
        """Whether they are enrolled, assigned or a contact today, by the rows that the viewer sees (D27)."""
        ties = self.active_rows("relationship", contact_id=person_id)
        return bool(
            self.active_rows("enrollment", person_id=person_id)
            or (self.own(person_id) and self.active_rows("district_assignment", person_id=person_id))
            or any(self.sees_relationship(tie) for tie in ties)
        )

    def reaching(self, **key: object) -> list[Row]:
        """The relationships that messages go through (D8, D10)."""
        return [r for r in self.active_rows("relationship", **key) if r["messenger"] and not r["no_contact"]]

    def in_audience(self, person_id: int, audience: str) -> bool:
        """Whether messages for an audience are for a person (D7-D9)."""
        if audience == "STUDENTS":
            return bool(self.active_rows("enrollment", person_id=person_id))
        if audience == "STAFF":
            return bool(self.active_rows("district_assignment", person_id=person_id))
        ties = self.reaching(contact_id=person_id)
        return any(self.in_audience(tie["student_id"], "STUDENTS") for tie in ties)

    def why_not(self) -> str | None:
        """Why the viewer may not change their own preferences, or None where they may (D22; no other door is there)."""
        if self.viewer.role is Role.VENDOR:
            return "A vendor reads preferences and changes none."
        if self.viewer.role is Role.ADMIN:
            other = "This token stands for nobody who has preferences. `setPreferences` sets other people's."
            return other if self.me is None else None
        if self.me is None:
            return "Nobody of this district belongs to this token."
        return "Preferences cannot be changed here. Ask the district's office: an administrator can set them."

    # ── the batch ───────────────────────────────────────────────────────────────────────────────

    def population(self, mode: str, scope: Mapping[str, Any]) -> set[int]:
        """The people whom a mode selects in a scope (D11, D12). Raises Rejected."""
        if codes := list(self._scope_errors(mode, scope)):
            raise Rejected([UserError(code, code) for code in codes])
        chosen = self._filtered(scope.get("filterId"))
        if mode == "CENSUS_STAFF":
            rows = self.active_rows("district_assignment")
            return {row["person_id"] for row in rows if _listed(row, scope)} & chosen
        rows = self.active_rows("enrollment")
        year = scope.get("schoolYear") or max((row["school_year"] for row in rows), default=None)
        grades = scope.get("grades")
        students = chosen & {
            row["person_id"]
            for row in rows
            if row["school_year"] == year
            and _listed(row, scope)
            and (grades is None or any(same_grade(row["grade"], grade) for grade in grades))
        }
        if mode == "STUDENTS":
            return students
        ties = self.active_rows("relationship", messenger=True)
        return {tie["contact_id"] for tie in ties if tie["student_id"] in students}

    def _scope_errors(self, mode: str, scope: Mapping[str, Any]) -> Iterable[str]:
        schools = {f"school_{s['school_id']}" for s in self.tables["school"]}
        yield from ("UNKNOWN_SCHOOL" for school in scope.get("schoolIds") or () if school not in schools)
        kind, filter_id = FILTER_KINDS.get(mode), scope.get("filterId")
        if kind is None:
            yield "UNKNOWN_MODE"
            return
        if kind == "CENSUS":
            yield from ("GRADES_NOT_ALLOWED" for _ in [()] if scope.get("grades") is not None)
            yield from ("SCHOOL_YEAR_NOT_ALLOWED" for _ in [()] if scope.get("schoolYear") is not None)
        else:
            there = [row["grade"] for row in self.tables["enrollment"]]
            for grade in scope.get("grades") or ():
                yield from ("UNKNOWN_GRADE" for _ in [()] if not any(same_grade(grade, g) for g in there))
        saved = [f for f in self.tables["saved_filter"] if f"filter_{f['saved_filter_id']}" == filter_id]
        if filter_id is None:
            yield from ("FILTER_REQUIRED" for _ in [()] if kind == "CENSUS")
        elif not saved:
            yield "UNKNOWN_FILTER"
        elif saved[0]["kind"] != kind:
            yield "WRONG_FILTER_KIND"
        elif self.matching(saved[0]["criteria"]) is None:
            yield "INVALID_CRITERIA"

    def _filtered(self, filter_id: str | None) -> set[int]:
        if filter_id is None:
            return {p["person_id"] for p in self.tables["person"]}
        number = int(filter_id.removeprefix("filter_"))
        return self.matching(self.rows("saved_filter", saved_filter_id=number)[0]["criteria"]) or set()

    # ── saved filters ───────────────────────────────────────────────────────────────────────────

    def matching(self, criteria: Mapping[str, Any]) -> set[int] | None:
        """The people who fit a saved filter; None where it names a field that no plug-in has."""
        try:
            return {p["person_id"] for p in self.tables["person"] if self._fits(criteria, p["person_id"])}
        except KeyError:
            return None

    def _fits(self, criteria: Mapping[str, Any], person_id: int) -> bool:
        if "all" in criteria:
            return all(self._fits(part, person_id) for part in criteria["all"])
        if "any" in criteria:
            return any(self._fits(part, person_id) for part in criteria["any"])
        if "not" in criteria:
            return not self._fits(criteria["not"], person_id)
        wanted = criteria["in"] if "in" in criteria else [criteria["is"]]
        values = self._values(criteria["field"], person_id)
        if criteria["field"] == "grade":
            return any(same_grade(str(value), one) for value in values for one in wanted)
        return any(value in wanted for value in values)

    def _values(self, field: str, person_id: int) -> set[object]:
        """The values that a person has of a field. Raises KeyError."""
        enrollments = self.active_rows("enrollment", person_id=person_id)
        assignments = self.active_rows("district_assignment", person_id=person_id)
        homes = self.households_of(person_id)
        phones = [h for h in self.tables["household"] if h["household_id"] in homes and h["phone"]]
        kinds = {c["kind"] for c in self.rows("contact_point", person_id=person_id)}
        messenger = self.reaching(student_id=person_id)
        values: dict[str, set[object]] = {
            "grade": {e["grade"] for e in enrollments},
            "school": {f"school_{e['school_id']}" for e in enrollments},
            "hasMessengerContact": {bool(messenger)},
            "hasContactPoint": kinds | ({"HOUSEHOLD_PHONE"} if phones else set()),
            "assignmentTitle": {a["title"] for a in assignments},
        }
        return values[field]


def _listed(row: Row, scope: Mapping[str, Any]) -> bool:
    schools = scope.get("schoolIds")
    return schools is None or f"school_{row['school_id']}" in schools


def same_grade(one: str, other: str) -> bool:
    """Whether two grades are one: `7` and `07` (D32)."""
    return _unpadded(one) == _unpadded(other)


def _unpadded(grade: str) -> str:
    return grade.lstrip("0") or grade[-1:]
