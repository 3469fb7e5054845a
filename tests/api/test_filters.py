"""Saved filters: criteria mean what the naive model says, bad ones are refused, names and kinds are kept."""

import asyncio
import contextlib
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gql_server.db.pool import Pool
from gql_server.db.statements import fetch
from gql_server.domain.batch import FilterKind
from gql_server.domain.limits import MAX_SAVED_FILTERS
from gql_server.domain.sql import Sql
from gql_server.domain.viewer import District, Role, Viewer
from gql_server.errors import Forbidden, Rejected
from gql_server.hooks.host import PluginHost
from gql_server.services.filters import FilterService, compile_criteria
from tests.support.builder import DistrictBuilder
from tests.support.model import fits
from tests.support.server import serving
from tests.support.worlds import load, row_id, to_api, worlds

STUDENT, CENSUS = FilterKind.STUDENT, FilterKind.CENSUS
PEOPLE = Sql("select p.person_id from person p where p.district_id = :district_id and {criteria}")
NINTH: dict[str, Any] = {"field": "grade", "is": "09"}
_codes = itertools.count()


def viewer(district: District, role: Role = Role.ADMIN) -> Viewer:
    return Viewer(district, role)


async def people_of(db: Pool, district: District, criteria: Sql) -> set[int]:
    async with db.acquire() as conn:
        rows = await fetch(
            conn, PEOPLE.fill(criteria=criteria), district_id=district.district_id, today=district.today()
        )
    return {row["person_id"] for row in rows}


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(world=worlds())
async def test_criteria_select_whom_the_model_selects(db: Pool, host: PluginHost, world: Any) -> None:
    """Compiled criteria and a naive reading of them agree on every person, whoever else is there (D6)."""
    async with db.transaction() as conn:
        loaded = await load(conn, host, world, f"world{next(_codes)}")
    for saved in world.filters:
        compiled = compile_criteria(to_api(saved.criteria), saved.kind, host)
        expected = {row_id(n) for n in range(len(world.people)) if fits(world, saved.criteria, n)}
        assert await people_of(db, loaded.district, compiled) == expected


BAD: dict[str, tuple[object, tuple[str, ...]]] = {
    "no object": ("grade", ()),
    "nothing": (None, ()),
    "a list": ([NINTH], ()),
    "no key": ({}, ()),
    "two groups": ({"all": [NINTH], "any": [NINTH]}, ()),
    "unknown group": ({"none": [NINTH]}, ()),
    "group and leaf": ({"all": [NINTH], **NINTH}, ()),
    "empty all": ({"all": []}, ("all",)),
    "empty any": ({"any": []}, ("any",)),
    "all is no list": ({"all": NINTH}, ("all",)),
    "not takes one": ({"not": [NINTH]}, ("not",)),
    "deep inside": (
        {"all": [NINTH, {"not": {"any": [{"field": "x"}]}}]}, ("all", "1", "not", "any", "0", "field"),
    ),
    "unknown field": ({"field": "shoeSize", "is": 9}, ("field",)),
    "field of the other kind": ({"field": "assignmentTitle", "is": "Teacher"}, ("field",)),
    "field is a list": ({"field": ["grade"], "is": "09"}, ("field",)),
    "no value": ({"field": "grade"}, ()),
    "both is and in": ({**NINTH, "in": ["09"]}, ()),
    "unknown key": ({**NINTH, "or": "10"}, ()),
    "empty in": ({"field": "grade", "in": []}, ("in",)),
    "in is no list": ({"field": "grade", "in": "09"}, ("in",)),
    "is a list": ({"field": "grade", "is": ["09"]}, ("is",)),
    "number for text": ({"field": "grade", "in": ["09", 9]}, ("in", "1")),
    "null for text": ({"field": "grade", "is": None}, ("is",)),
    "long text": ({"field": "grade", "is": "9" * 201}, ("is",)),
    "NUL": ({"field": "grade", "is": "0\x009"}, ("is",)),
    "half a surrogate": ({"field": "grade", "is": "\ud800"}, ("is",)),
    "text for number": ({"field": "schoolYear", "is": "2026"}, ("is",)),
    "boolean for number": ({"field": "schoolYear", "is": True}, ("is",)),
    "fraction": ({"field": "schoolYear", "is": 2026.5}, ("is",)),
    "huge number": ({"field": "schoolYear", "is": 2**31}, ("is",)),
    "number for id": ({"field": "person", "is": 7}, ("is",)),
    "in of a boolean": ({"field": "activeEnrollment", "in": [True]}, ()),
    "number for boolean": ({"field": "activeEnrollment", "is": 1}, ()),
    "text for boolean": ({"field": "activeEnrollment", "is": "true"}, ()),
    "not one of the values": ({"field": "hasContactPoint", "is": "FAX"}, ("is",)),
    "nine deep": ({"not": {"not": {"not": {"not": {"not": {"not": {"not": {"not": {}}}}}}}}}, ("not",) * 8),
    "201 parts": ({"all": [NINTH] * 200}, ("all", "199")),
    "10,001 values": ({"field": "person", "in": ["person_1"] * 10_001}, ("in",)),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_criteria_are_refused_where_they_are_bad(name: str, host: PluginHost) -> None:
    """Everything outside the grammar is INVALID_CRITERIA with the path to it and a sentence, never SQL."""
    criteria, path = BAD[name]
    with pytest.raises(Rejected) as caught:
        compile_criteria(criteria, STUDENT, host)
    (error,) = caught.value.errors
    assert (error.code, error.path) == ("INVALID_CRITERIA", ("criteria", *path))
    assert error.message.endswith(".")


def test_all_that_is_wrong_is_said_at_once(host: PluginHost) -> None:
    """Two bad leaves are two errors, and an unknown field's error names the fields there are."""
    with pytest.raises(Rejected) as caught:
        compile_criteria({"any": [{"field": "a", "is": 1}, NINTH, {"field": "b", "is": 1}]}, CENSUS, host)
    assert [error.path for error in caught.value.errors] == [
        ("criteria", "any", str(n), "field") for n in (0, 1, 2)
    ]
    assert "assignmentTitle, " in caught.value.errors[0].message
    assert "grade," not in caught.value.errors[0].message


def test_what_is_just_within_the_limits_compiles(host: PluginHost) -> None:
    """Eight deep, 200 parts and 10,000 ids are allowed, in one filter."""
    deep: dict[str, Any] = {"field": "person", "in": ["person_1"] * 9_808}
    for _ in range(6):
        deep = {"not": deep}
    assert compile_criteria({"all": [deep, *[NINTH] * 192]}, STUDENT, host).args


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["all", "any", "not", "field", "is", "in", "x"]),
            inner | st.just("grade"),
            max_size=3,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(criteria=_json, kind=st.sampled_from(FilterKind))
def test_any_json_compiles_or_is_refused(host: PluginHost, criteria: object, kind: FilterKind) -> None:
    """No JSON makes the compiler fail in another way, and none of its text gets into the SQL."""
    with contextlib.suppress(Rejected):
        compiled = compile_criteria(criteria, kind, host)
        assert all(isinstance(value, list) for value in compiled.args.values())


@pytest.mark.parametrize("text", ["09'; drop table person; --", ":today", "{slot}", "$1", '"', "\\"])
async def test_values_are_never_sql(db: Pool, district: DistrictBuilder, host: PluginHost, text: str) -> None:
    """A value that looks like SQL is a value: it matches the grade that is written so, and nothing else."""
    school = await district.school()
    odd = await district.student(school, grade=text)
    await district.student(school, grade="09")
    compiled = compile_criteria({"field": "grade", "is": text}, STUDENT, host)
    assert await people_of(db, district.district, compiled) == {odd}


@pytest.mark.parametrize("given_id", ["person_99999", "person_", "person_01", "school_1", "", "é"])
async def test_ids_that_are_nobodys_fit_nobody(
    db: Pool, district: DistrictBuilder, host: PluginHost, given_id: str
) -> None:
    """A malformed id, an unknown one and one of another kind are no errors, and fit nobody alike."""
    await district.person()
    compiled = compile_criteria({"field": "person", "is": given_id}, CENSUS, host)
    assert await people_of(db, district.district, compiled) == set()


@pytest.fixture
def filters(db: Pool, host: PluginHost) -> FilterService:
    return FilterService(db, host)


async def codes(saving: Any) -> list[tuple[str, tuple[str, ...] | None]]:
    with pytest.raises(Rejected) as caught:
        await saving
    return [(error.code, error.path) for error in caught.value.errors]


async def test_a_filter_is_saved_changed_and_deleted(
    filters: FilterService, district: DistrictBuilder
) -> None:
    """Saving trims the name, changing keeps the number; none of it takes a revision (D28)."""
    admin = viewer(district.district)
    number = await filters.save(admin, name="  Ninth  ", kind=STUDENT, criteria=NINTH)
    same = await filters.save(
        admin, name="Ninth", kind=STUDENT, criteria={"not": NINTH}, filter_id=f"filter_{number}"
    )
    rows = await district.conn.fetch("select saved_filter_id, name, criteria::text from saved_filter")
    assert [tuple(row.values()) for row in rows] == [
        (same, "Ninth", '{"not": {"is": "09", "field": "grade"}}')
    ]
    await filters.delete(admin, f"filter_{number}")
    assert await district.conn.fetchval("select count(*) from saved_filter") == 0
    assert await district.conn.fetchval("select revision from district") == 0


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
async def test_only_administrators_manage_filters(
    filters: FilterService, district: DistrictBuilder, role: Role
) -> None:
    """Every other role is forbidden to save and to delete, before anything is looked at."""
    with pytest.raises(Forbidden):
        await filters.save(viewer(district.district, role), name="", kind=STUDENT, criteria=None)
    with pytest.raises(Forbidden):
        await filters.delete(viewer(district.district, role), "filter_1")


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\0b", "\ud800"])
async def test_a_name_must_be_one(filters: FilterService, district: DistrictBuilder, name: str) -> None:
    """A name of 1 to 100 characters is asked for, and bad criteria are told of in the same answer."""
    assert await codes(filters.save(viewer(district.district), name=name, kind=STUDENT, criteria={})) == [
        ("INVALID_NAME", ("name",)),
        ("INVALID_CRITERIA", ("criteria",)),
    ]


async def test_names_are_unique_in_a_kind(filters: FilterService, district: DistrictBuilder) -> None:
    """A name taken is refused to a new filter and to a renamed one; the other kind may use it."""
    admin = viewer(district.district)
    await filters.save(admin, name="A", kind=STUDENT, criteria=NINTH)
    await filters.save(admin, name="A", kind=CENSUS, criteria={"field": "activeEnrollment", "is": True})
    b = await filters.save(admin, name="B", kind=STUDENT, criteria=NINTH)
    taken = [("NAME_TAKEN", ("name",))]
    assert await codes(filters.save(admin, name="A ", kind=STUDENT, criteria=NINTH)) == taken
    renamed = filters.save(admin, name="A", kind=STUDENT, criteria=NINTH, filter_id=f"filter_{b}")
    assert await codes(renamed) == taken


async def test_of_many_that_want_one_name_one_gets_it(
    filters: FilterService, district: DistrictBuilder
) -> None:
    """Creating and renaming at once never fails in the database: one wins, the others hear NAME_TAKEN."""
    admin = viewer(district.district)
    olds = [await filters.save(admin, name=f"old {n}", kind=STUDENT, criteria=NINTH) for n in range(4)]
    ids = [None, None, None, *[f"filter_{old}" for old in olds]]
    results = await asyncio.gather(
        *[filters.save(admin, name="N", kind=STUDENT, criteria=NINTH, filter_id=i) for i in ids],
        return_exceptions=True,
    )
    refused = [result for result in results if not isinstance(result, int)]
    assert len(refused) == len(ids) - 1
    assert all(isinstance(r, Rejected) and r.errors[0].code == "NAME_TAKEN" for r in refused)


async def test_no_more_filters_are_saved_than_can_be_listed(
    db: Pool, host: PluginHost, filters: FilterService, district: DistrictBuilder
) -> None:
    """Of many that are saved at once as many are as `savedFilters` lists; the others hear TOO_MANY_FILTERS. A filter
    can still be changed, and after one is deleted another saved; other districts have their own."""
    admin = viewer(district.district)
    for n in range(MAX_SAVED_FILTERS - 2):
        await district.insert("saved_filter", name=f"old {n}", kind="STUDENT", criteria="{}")
    saving = [
        filters.save(admin, name=f"N{n}", kind=kind, criteria={"field": "person", "is": "person_1"})
        for n in range(3)
        for kind in (STUDENT, CENSUS)
    ]
    results = await asyncio.gather(*saving, return_exceptions=True)
    saved = [result for result in results if isinstance(result, int)]
    refused = [result for result in results if isinstance(result, Rejected)]
    assert (len(saved), len(refused)) == (2, 4)
    assert {(error.code, error.path) for each in refused for error in each.errors} == {
        ("TOO_MANY_FILTERS", None)
    }
    async with serving(db, host, district.district.code) as server:
        listed = (await server.run("{ savedFilters { id kind } }"))["savedFilters"]
    assert len(listed) == MAX_SAVED_FILTERS
    old = next(each["id"] for each in listed if each["kind"] == "STUDENT")
    await filters.save(admin, name="changed", kind=STUDENT, criteria=NINTH, filter_id=old)
    assert await codes(filters.save(admin, name="new", kind=STUDENT, criteria=NINTH)) == [
        ("TOO_MANY_FILTERS", None)
    ]
    await filters.delete(admin, old)
    await filters.save(admin, name="new", kind=STUDENT, criteria=NINTH)
    other = await DistrictBuilder.create(district.conn, host, code="birch")
    await filters.save(viewer(other.district), name="new", kind=STUDENT, criteria=NINTH)


async def test_the_kind_of_a_filter_stays(filters: FilterService, district: DistrictBuilder) -> None:
    """A student filter cannot become a census filter: runs and modes rely on it."""
    admin = viewer(district.district)
    number = await filters.save(admin, name="A", kind=STUDENT, criteria=NINTH)
    everyone = {"field": "activeEnrollment", "is": False}
    changed = filters.save(admin, name="A", kind=CENSUS, criteria=everyone, filter_id=f"filter_{number}")
    assert await codes(changed) == [("WRONG_FILTER_KIND", ("kind",))]


async def test_ids_that_are_not_this_districts_filters_are_unknown(
    filters: FilterService, district: DistrictBuilder, host: PluginHost
) -> None:
    """Malformed, foreign and unknown ids give one and the same answer."""
    other = await DistrictBuilder.create(district.conn, host, code="birch")
    number = await filters.save(viewer(other.district), name="A", kind=STUDENT, criteria=NINTH)
    admin = viewer(district.district)
    messages = set()
    for given_id in (f"filter_{number}", "filter_99999", "filter_", "person_1", ""):
        with pytest.raises(Rejected) as saving:
            await filters.save(admin, name="A", kind=STUDENT, criteria=NINTH, filter_id=given_id)
        with pytest.raises(Rejected) as deleting:
            await filters.delete(admin, given_id)
        messages |= {(e.code, e.message) for c in (saving, deleting) for e in c.value.errors}
        assert {e.path for c in (saving, deleting) for e in c.value.errors} == {("id",)}
    assert {code for code, _ in messages} == {"UNKNOWN_FILTER"}
    assert len(messages) == 1
    assert await district.conn.fetchval("select count(*) from saved_filter") == 1
