"""SQL or a hook of a plug-in that fails in a read: its field is an error that names it; the rest is answered."""

from typing import Any

import pytest
import structlog

from gql_server.db.pool import Pool, open_pool
from gql_server.db.statements import resource_folder
from gql_server.domain.batch import FilterKind as SavedKind
from gql_server.hooks import (
    BatchMode,
    BatchScope,
    FieldType,
    FilterField,
    FilterKind,
    Population,
    Sql,
    hookimpl,
)
from gql_server.hooks.host import PluginHost
from gql_server.services.filters import FilterService
from tests.support.batch import admin
from tests.support.builder import DistrictBuilder
from tests.support.server import serving

BOOM = "1/(p.person_id - p.person_id) = any(:value::integer[])"
BOOM_ALONE = "1/(p.person_id - p.person_id) = 1"
UNREAD = "The mutation has succeeded; only this field of its payload could not be read."
IN_DATABASE = "failed in the database (22012)."


class Failing:
    """Modes and filter fields whose SQL fails on data, or whose hook raises."""

    @hookimpl
    def batch_modes(self) -> list[BatchMode]:
        codes = ("BAD", "RAISING", "MISSPELT", "TEXT", "COMPOSED", "SLOW")
        return [BatchMode(code, "B", "B.", FilterKind.STUDENT) for code in codes]

    @hookimpl
    def select_population(self, mode: str, scope: BatchScope) -> Population | None:
        people = "select p.person_id from person p where p.district_id = :district_id and"
        match mode:
            case "BAD":
                return Population(Sql(f"{people} {BOOM_ALONE}"))
            case "MISSPELT":
                return Population(Sql(f"{people} p.persn_id = 1"))
            case "TEXT":  # valid alone, but no number to look a person up by
                return Population(Sql("select 'x' as person_id"))
            case "COMPOSED":  # fails in the statement of a read alone
                composed = "current_query() like '%request' || '_tag%'"
                return Population(Sql(f"{people} case when {composed} then {BOOM_ALONE} else true end"))
            case "SLOW":
                return Population(Sql(f"{people} pg_sleep(5) is not null"))
            case "RAISING":
                raise LookupError("no list for today")
        return None

    @hookimpl
    def filter_fields(self) -> list[FilterField]:
        return [
            FilterField("boom", "B", FieldType.INTEGER, BOOM),
            FilterField("slow", "S", FieldType.BOOLEAN, "pg_sleep(5) is not null"),
        ]


def failing_host() -> PluginHost:
    return PluginHost([resource_folder("plugins")], given={"failing": Failing()})


async def asked(
    db: Pool, district: DistrictBuilder, query: str, event: str = "plugin_failed"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the answer to a query and what was logged of plug-ins: their failures, or another event."""
    host = failing_host()
    with structlog.testing.capture_logs() as logs:
        async with serving(db, host, district.district.code) as server:
            _, answer = await server.post({"query": query}, token=server.token())
    assert not [log for log in logs if log["event"] == "unexpected_error"]
    return answer, [dict(log) for log in logs if log["event"] == event]


async def save(db: Pool, district: DistrictBuilder, name: str, field: str, value: object) -> None:
    await FilterService(db, failing_host()).save(
        admin(district), name=name, kind=SavedKind.STUDENT, criteria={"field": field, "is": value}
    )


async def test_a_mode_whose_sql_fails_is_a_plugin_error_at_its_field(
    db: Pool, district: DistrictBuilder
) -> None:
    """SQL that fails on data, SQL that is wrong, and a hook that raises: code PLUGIN, a path, one line in the log; the
    other fields are answered (D11)."""
    await district.student(await district.school())
    selection = "Plug-in 'failing': the selection of the mode"
    for mode, told in {
        "BAD": f"{selection} 'BAD' {IN_DATABASE}",
        "MISSPELT": f"{selection} 'MISSPELT' failed in the database (42703, line 1, column 73 of its SQL).",
        "TEXT": f"{selection} 'TEXT' failed in the database (42883).",
        "RAISING": "Plug-in 'failing': select_population failed: LookupError.",
    }.items():
        answer, (logged,) = await asked(
            db, district, f'{{ headRevision options: batchOptions(mode: "{mode}") {{ population }} }}'
        )
        (error,) = answer["errors"]
        assert (error["message"], error["extensions"]["code"], error["path"]) == (told, "PLUGIN", ["options"])
        assert answer["data"] == {"headRevision": "0", "options": None}
        assert (logged["plugin"], logged["district"]) == ("failing", "maple")
        assert logged["error"].startswith(told)


async def test_a_filter_field_whose_sql_fails_is_a_plugin_error_at_matches(
    db: Pool, district: DistrictBuilder
) -> None:
    """The one field that fails is named, of all that saved filters use; the rest of the query is answered, also where a
    mode fails beside it."""
    await district.student(await district.school())
    await save(db, district, "fine", "grade", "09")
    await save(db, district, "bad", "boom", 1)
    await save(db, district, "good", "grade", "10")
    query = '{ headRevision savedFilters { name matches } batchOptions(mode: "BAD") { population } }'
    answer, logged = await asked(db, district, query)
    errors = [(error["message"], error["extensions"]["code"], error["path"]) for error in answer["errors"]]
    assert errors == [
        (f"Plug-in 'failing': filter field 'boom' {IN_DATABASE}", "PLUGIN", ["savedFilters", "matches"]),
        (f"Plug-in 'failing': the selection of the mode 'BAD' {IN_DATABASE}", "PLUGIN", ["batchOptions"]),
    ]
    assert answer["data"] == {"headRevision": "0", "savedFilters": None, "batchOptions": None}
    assert [log["plugin"] for log in logged] == ["failing"] * 2
    answer, logged = await asked(db, district, "{ savedFilters { name } }")
    assert len(answer["data"]["savedFilters"]) == 3
    assert not logged


async def test_a_scope_whose_filter_fails_names_the_field_and_not_the_mode(
    db: Pool, district: DistrictBuilder
) -> None:
    """The SQL of a mode contains the scope's filter. The plug-in of the filter's field is named, not that of the
    mode (D33)."""
    await district.student(await district.school())
    await save(db, district, "bad", "boom", 1)
    answer, _ = await asked(db, district, "{ savedFilters { id } }")
    scope = f'scope: {{filterId: "{answer["data"]["savedFilters"][0]["id"]}"}}'
    answer, _ = await asked(db, district, f'{{ batchOptions(mode: "STUDENTS", {scope}) {{ population }} }}')
    assert [error["message"] for error in answer["errors"]] == [
        f"Plug-in 'failing': filter field 'boom' {IN_DATABASE}"
    ]


async def test_the_payload_of_a_saved_filter_whose_sql_fails_names_the_plugin(
    db: Pool, district: DistrictBuilder
) -> None:
    """The filter is saved, and `userErrors` is answered; `filter` is null with the code PLUGIN and its path."""
    await district.student(await district.school())
    answer, (logged,) = await asked(
        db,
        district,
        'mutation { saveFilter(input: {name: "n", kind: STUDENT, criteria: {field: "boom", is: 1}})'
        " { filter { name matches } userErrors { code } } }",
    )
    (error,) = answer["errors"]
    assert (error["extensions"]["code"], error["path"]) == ("PLUGIN", ["saveFilter", "filter"])
    assert error["message"] == f"{UNREAD} Plug-in 'failing': filter field 'boom' {IN_DATABASE}"
    assert answer["data"] == {"saveFilter": {"filter": None, "userErrors": []}}
    assert logged["error"].startswith(f"Plug-in 'failing': filter field 'boom' {IN_DATABASE}")


async def test_sql_that_fails_only_where_it_is_put_names_all_plugins_of_the_statement(
    db: Pool, district: DistrictBuilder
) -> None:
    """Where no part fails alone, the fields with SQL of plug-ins are errors that name whoever may be at fault, and the
    rest of the query is answered (D11)."""
    await district.student(await district.school())
    await save(db, district, "fine", "grade", "09")
    batch_options = 'batchOptions(mode: "COMPOSED") { population }'
    failed = "failed in the database (22012)."
    answer, (logged,) = await asked(db, district, f"{{ headRevision {batch_options} }}")
    assert answer["data"] == {"headRevision": "0", "batchOptions": None}
    (error,) = answer["errors"]
    told = f"Plug-in 'failing': the selection of the mode 'COMPOSED' {failed}"
    assert (error["message"], error["extensions"]["code"], error["path"]) == (
        told,
        "PLUGIN",
        ["batchOptions"],
    )
    assert logged["error"].startswith(told)
    both = f"{{ headRevision savedFilters {{ matches }} {batch_options} }}"
    answer, (logged,) = await asked(db, district, both)
    assert answer["data"] == {"headRevision": "0", "savedFilters": None, "batchOptions": None}
    suspects = "filter field 'grade' or the selection of the mode 'COMPOSED'"
    told = f"Plug-in 'people_fields, failing': {suspects} {failed}"
    assert [(error["message"], error["path"]) for error in answer["errors"]] == [
        (told, ["savedFilters", "matches"]),
        (told, ["batchOptions"]),
    ]
    assert logged["plugin"] == "people_fields, failing"


async def test_a_read_that_takes_too_long_logs_whose_sql_it_held(
    dsn: str, db: Pool, district: DistrictBuilder
) -> None:
    """The answer is TIMEOUT as a whole: nobody can tell which part was slow. The log has every plug-in whose SQL was in
    the statement, so that whoever runs the server finds it; a read without such SQL is not logged."""
    await district.student(await district.school())
    pool = await open_pool(dsn, min_size=1, max_size=4, statement_timeout=0.3)
    try:
        query = '{ headRevision batchOptions(mode: "SLOW") { population } }'
        answer, logged = await asked(pool, district, query, "plugin_sql_timed_out")
    finally:
        await pool.close()
    assert answer["data"] is None
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["TIMEOUT"]
    (log,) = logged
    assert (log["log_level"], log["plugins"], log["district"]) == ("warning", ["failing"], "maple")
    assert log["parts"] == ["the selection of the mode 'SLOW'"]


@pytest.mark.parametrize(
    ("criteria", "code"),
    [('{field: "slow", is: true}', "TIMEOUT"), ('{field: "hasContactPoint", is: "EMAIL"}', "BUSY")],
)
async def test_a_payload_that_cannot_be_read_says_that_the_mutation_has_succeeded(
    dsn: str, db: Pool, district: DistrictBuilder, criteria: str, code: str
) -> None:
    """Where the payload's read takes too long, or waits for a lock, the error does not say that nothing was written and
    does not ask for the same mutation again: the filter is saved."""
    await district.student(await district.school())
    timeout, lock = (5, 0.2) if code == "BUSY" else (0.3, 5)
    pool = await open_pool(dsn, min_size=1, max_size=4, statement_timeout=timeout, lock_timeout=lock)
    try:
        async with db.transaction() as conn:
            await conn.execute("lock table contact_point in access exclusive mode")
            answer, _ = await asked(
                pool,
                district,
                f'mutation {{ saveFilter(input: {{name: "n", kind: STUDENT, criteria: {criteria}}})'
                " { filter { matches } userErrors { code } } }",
            )
    finally:
        await pool.close()
    (error,) = answer["errors"]
    assert (error["extensions"]["code"], error["path"]) == (code, ["saveFilter", "filter"])
    assert error["message"] == f"{UNREAD} Do not send the mutation again: read the field with a query."
    assert answer["data"] == {"saveFilter": {"filter": None, "userErrors": []}}
    assert await district.conn.fetchval("select name from saved_filter") == "n"
