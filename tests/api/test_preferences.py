"""One person's or household's preferences, set by an administrator (D2, D3, D5, D19, D22)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from gql_server.db.pool import Pool, open_pool
from gql_server.db.protocols import Connection
from gql_server.domain.channels import Method
from gql_server.domain.ids import IdKind, encode_id
from gql_server.domain.viewer import Role, Viewer
from gql_server.errors import Forbidden, PluginError, Rejected
from gql_server.hooks import Candidate, DistrictReader, Verdict
from gql_server.hooks.host import PluginHost
from gql_server.services.preferences import PreferenceCell, PreferenceService
from tests.support.batch import CELL, EMAIL, HOUSEHOLD, WORK, admin
from tests.support.builder import ENDED, DistrictBuilder
from tests.support.checks import host_checking, on_this_loop
from tests.support.counting import CountingDatabase

VOICE, TEXT = Method.VOICE, Method.TEXT
CALL = PreferenceCell(CELL, VOICE, "EMERGENCY", True)


@pytest.fixture
def service(db: Pool, host: PluginHost) -> PreferenceService:
    return PreferenceService(db, host)


def person(number: int) -> str:
    return encode_id(IdKind.PERSON, number)


def household(number: int) -> str:
    return encode_id(IdKind.HOUSEHOLD, number)


async def codes(
    service: PreferenceService, district: DistrictBuilder, target: str, *cells: PreferenceCell
) -> list[str]:
    """Return the codes of a refused write, which must leave nothing."""
    write = service.set_person if target.startswith("person") else service.set_household
    with pytest.raises(Rejected) as caught:
        await write(admin(district), target, cells)
    assert await district.conn.fetchval("select count(*) from change_set") == 0
    return [error.code for error in caught.value.errors]


async def test_an_administrator_sets_any_channel(
    service: PreferenceService, district: DistrictBuilder
) -> None:
    """TEXT too, on and off, with or without a value on record, in one change set (D22, D28)."""
    ada = await district.person(cell_phone="1")
    await district.prefer(ada, EMAIL, on=("GENERAL",))
    cells = [
        CALL,
        PreferenceCell(CELL, TEXT, "FOOD_SERVICE", True),
        PreferenceCell(WORK, VOICE, "GENERAL", True),
        PreferenceCell(EMAIL, Method.EMAIL, "GENERAL", False),
        PreferenceCell(EMAIL, Method.EMAIL, "TEACHER", True),
    ]
    assert await service.set_person(admin(district), person(ada), cells) == ada
    assert await district.on(ada, CELL) == ["EMERGENCY"]
    assert await district.on(ada, CELL, TEXT) == ["FOOD_SERVICE"]
    assert await district.on(ada, WORK) == ["GENERAL"]
    assert await district.on(ada, EMAIL) == ["TEACHER"]
    assert await district.conn.fetchrow("select revision, source, actor from change_set") == (
        1,
        "ADMIN",
        "ADMIN",
    )


async def test_a_household_phone_is_set_for_all(
    service: PreferenceService, district: DistrictBuilder
) -> None:
    """The household phone is the household's, by VOICE and TEXT (D5, D22)."""
    home = await district.household(await district.person(), phone="1")
    cells = [PreferenceCell(HOUSEHOLD, method, "EMERGENCY", True) for method in (VOICE, TEXT)]
    assert await service.set_household(admin(district), household(home), cells) == home
    rows = await district.conn.fetch("select method, reasons_on from household_preference order by method")
    assert [tuple(row.values()) for row in rows] == [("VOICE", 1), ("TEXT", 1)]


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
async def test_others_may_not(service: PreferenceService, district: DistrictBuilder, role: Role) -> None:
    """Only an administrator sets other people's preferences; a vendor changes nothing (D22, D26)."""
    with pytest.raises(Forbidden):
        await service.set_person(Viewer(district.district, role), person(1), [CALL])


async def test_ids_do_not_tell_who_exists(
    service: PreferenceService, db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """Malformed ids, another district's and unknown ones get the same answer."""
    async with db.acquire() as conn:
        other = await DistrictBuilder.create(conn, host, "birch")
        foreign = await other.person()
        home = await other.household(foreign)
    for target in (person(foreign), person(999), "person_x", "person_"):
        assert await codes(service, district, target, CALL) == ["NOT_FOUND"]
    ring = PreferenceCell(HOUSEHOLD, VOICE, "EMERGENCY", True)
    for target in (household(home), household(999), "household_x", "x"):
        assert await codes(service, district, target, ring) == ["NOT_FOUND"]


async def test_bad_cells_have_codes(service: PreferenceService, district: DistrictBuilder) -> None:
    """Every fault of the list is named at once; a person has no household phone, a household nothing else
    (D2, D5)."""
    ada = await district.person(cell_phone="1")
    assert await codes(service, district, person(ada)) == ["NO_CELLS"]
    faults = [
        PreferenceCell(HOUSEHOLD, VOICE, "EMERGENCY", True),
        PreferenceCell(EMAIL, TEXT, "EMERGENCY", True),
        PreferenceCell(CELL, Method.EMAIL, "EMERGENCY", True),
        PreferenceCell(CELL, VOICE, "NOPE", True),
        CALL,
        PreferenceCell(CELL, VOICE, "EMERGENCY", False),
    ]
    assert await codes(service, district, person(ada), *faults) == [
        "INVALID_CHANNEL", "INVALID_CHANNEL", "INVALID_CHANNEL", "UNKNOWN_REASON", "CONFLICTING_CELLS",
    ]  # fmt: skip
    home = await district.household(ada, phone="1")
    assert await codes(service, district, household(home), CALL) == ["INVALID_CHANNEL"]


async def test_an_opt_out_holds_by_method(service: PreferenceService, district: DistrictBuilder) -> None:
    """ON is refused where the address is opted out for that method and reason; OFF and the other method pass
    (D19)."""
    ada = await district.person(cell_phone="1")
    await district.opt_out("1", TEXT, ("EMERGENCY",))
    text = PreferenceCell(CELL, TEXT, "EMERGENCY", True)
    assert await codes(service, district, person(ada), CALL, text) == ["RULE_DENIES"]
    for cell in (
        CALL,
        PreferenceCell(CELL, TEXT, "GENERAL", True),
        PreferenceCell(CELL, TEXT, "EMERGENCY", False),
    ):
        await service.set_person(admin(district), person(ada), [cell])
    assert await district.on(ada, CELL) == ["EMERGENCY"]
    assert await district.on(ada, CELL, TEXT) == ["GENERAL"]


async def test_an_opt_out_that_is_recorded_while_a_check_is_asked_holds(
    db: Pool, district: DistrictBuilder
) -> None:
    """Rules in SQL are asked after rules in Python, which may take long: a legal stop of that time counts (D19)."""
    student = await district.student(await district.school(), cell_phone="1")

    async def stop(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict]:
        await during(district.opt_out("1", VOICE))
        return [Verdict.ALLOW] * len(candidates)

    host, during = host_checking(stop), on_this_loop()
    assert await codes(PreferenceService(db, host), district, person(student), CALL) == ["RULE_DENIES"]
    assert await district.on(student, CELL) == []


@pytest.mark.parametrize("lifted", [True, False])
async def test_what_stops_a_write_is_asked_for_after_it(
    db: Pool, host: PluginHost, district: DistrictBuilder, lifted: bool
) -> None:
    """A write that a rule stopped says why, or is tried again where nothing stops it any more (D19)."""

    class Lifting(CountingDatabase):
        @asynccontextmanager
        async def autocommit(self, district_id: int | None = None) -> AsyncIterator[Connection]:
            async with self.acquire(district_id) as conn:
                yield conn
                await conn.execute("update opt_out set lifted_at = now()")

    ada = await district.person(cell_phone="1")
    await district.opt_out("1", VOICE)
    database = Lifting(db) if lifted else CountingDatabase(db)
    service = PreferenceService(database, host)
    if lifted:
        await service.set_person(admin(district), person(ada), [CALL])
    else:
        assert await codes(service, district, person(ada), CALL) == ["RULE_DENIES"]
    assert await district.on(ada, CELL) == (["EMERGENCY"] if lifted else [])
    writes = [text for text in database.statements if "insert into change_set" in text]
    assert len(writes) == (2 if lifted else 1)


async def test_an_opt_out_holds_for_the_household(
    service: PreferenceService, district: DistrictBuilder
) -> None:
    """The household's phone may be opted out (D19); the answer leads to the cell."""
    home = await district.household(await district.person(), phone="1")
    await district.opt_out("1", VOICE)
    with pytest.raises(Rejected) as caught:
        await service.set_household(
            admin(district), household(home), [PreferenceCell(HOUSEHOLD, VOICE, "GENERAL", True)]
        )
    (error,) = caught.value.errors
    assert (error.code, error.path) == ("RULE_DENIES", ("cells", "0"))
    assert error.message == "An opt-out is on record for this address. Use another contact point."


async def test_staff_needs_an_assignment(service: PreferenceService, district: DistrictBuilder) -> None:
    """STAFF is refused to people and households without an active assignment (D3)."""
    teacher, parent = await district.person(cell_phone="1"), await district.person(cell_phone="2")
    await district.assign(teacher)
    await district.assign(parent, dates=ENDED)
    staff = PreferenceCell(CELL, VOICE, "STAFF", True)
    assert await codes(service, district, person(parent), staff) == ["RULE_DENIES"]
    ring = PreferenceCell(HOUSEHOLD, VOICE, "STAFF", True)
    assert await codes(service, district, household(await district.household(parent)), ring) == [
        "RULE_DENIES"
    ]
    await service.set_person(admin(district), person(teacher), [staff])
    await service.set_household(admin(district), household(await district.household(teacher)), [ring])
    assert await district.on(teacher, CELL) == ["STAFF"]


async def test_an_administrators_change_is_no_choice(
    service: PreferenceService, district: DistrictBuilder
) -> None:
    """A changed bit ceases to be chosen; one that is as asked stays chosen (D18)."""
    ada = await district.person(cell_phone="1")
    await district.prefer(ada, CELL, on=("GENERAL",), chosen=("EMERGENCY", "GENERAL"))
    await service.set_person(
        admin(district), person(ada), [CALL, PreferenceCell(CELL, VOICE, "GENERAL", True)]
    )
    mask = await district.conn.fetchval("select reasons_chosen from preference")
    assert district.bits.codes(mask) == ["GENERAL"]


async def test_a_stale_revision_is_refused(service: PreferenceService, district: DistrictBuilder) -> None:
    """With if_revision, a write is refused if this person was changed since, and only then."""
    ada, bea = await district.person(cell_phone="1"), await district.person(cell_phone="2")
    quiet = PreferenceCell(CELL, VOICE, "EMERGENCY", False)
    await service.set_person(admin(district), person(ada), [CALL], if_revision=0)
    await service.set_person(admin(district), person(bea), [CALL])
    await service.set_person(admin(district), person(ada), [quiet], if_revision=1)
    for cells in ([CALL], [quiet]):
        with pytest.raises(Rejected) as caught:
            await service.set_person(admin(district), person(ada), cells, if_revision=2)
        assert [error.code for error in caught.value.errors] == ["STALE_REVISION"]
    assert await district.on(ada, CELL) == []
    assert await district.conn.fetchval("select revision from district") == 3


async def test_first_writes_at_the_same_time_all_count(
    db: Pool, dsn: str, host: PluginHost, district: DistrictBuilder
) -> None:
    """Two servers that both find no row for a channel insert one: whoever comes second repeats the write, and both
    have a revision of their own (D28)."""
    other = await open_pool(dsn)
    services = [PreferenceService(pool, host) for pool in (db, other)]
    people = [await district.person(cell_phone="1") for _ in range(6)]
    reasons = ("EMERGENCY", "GENERAL", "ATTENDANCE", "PRIORITY")
    await asyncio.gather(
        *(
            services[number % 2].set_person(
                admin(district), person(ada), [PreferenceCell(CELL, VOICE, reason, True)]
            )
            for ada in people
            for number, reason in enumerate(reasons)
        )
    )
    await other.close()
    for ada in people:
        assert set(await district.on(ada, CELL)) == set(reasons)
    revisions = await district.conn.fetch("select revision from change_set order by revision")
    assert [row["revision"] for row in revisions] == list(range(1, len(people) * len(reasons) + 1))


async def test_a_row_that_another_inserts_is_found_by_the_next_try(
    db: Pool, service: PreferenceService, district: DistrictBuilder
) -> None:
    """A write that finds no row, waits for another transaction to insert it, and then changes that row (D28)."""
    ada = await district.person(cell_phone="1")
    async with db.acquire() as conn:
        async with conn.transaction():
            await conn.execute(
                "insert into preference values ($1, $2, 'CELL_PHONE', 'VOICE', $3)",
                district.id, ada, district.bits.mask(["GENERAL"]),
            )  # fmt: skip
            writing = asyncio.create_task(service.set_person(admin(district), person(ada), [CALL]))
            await until_blocked(district)
        await writing
    assert set(await district.on(ada, CELL)) == {"EMERGENCY", "GENERAL"}
    assert await district.conn.fetchval("select revision from district") == 1


async def until_blocked(district: DistrictBuilder) -> None:
    """Wait until a transaction waits for another one."""
    async with asyncio.timeout(20):
        while not await district.conn.fetchval("select exists (select from pg_locks where not granted)"):
            await asyncio.sleep(0.01)


async def test_what_changes_nothing_takes_no_revision(
    service: PreferenceService, district: DistrictBuilder
) -> None:
    """A write that finds all as asked is no change set (D28)."""
    ada = await district.person(cell_phone="1")
    await service.set_person(admin(district), person(ada), [CALL])
    await service.set_person(admin(district), person(ada), [CALL])
    assert await district.conn.fetchval("select count(*) from change_set") == 1


async def test_off_for_what_was_never_set_writes_no_row(
    service: PreferenceService, district: DistrictBuilder
) -> None:
    """What has no row is off already: a write of OFF alone adds none, and is no change set (D28)."""
    ada = await district.person(cell_phone="1")
    home = await district.household(ada, phone="2")
    await service.set_person(admin(district), person(ada), [PreferenceCell(CELL, VOICE, "GENERAL", False)])
    ring = PreferenceCell(HOUSEHOLD, VOICE, "GENERAL", False)
    await service.set_household(admin(district), household(home), [ring])
    for table in ("preference", "household_preference", "change_set"):
        assert await district.conn.fetchval(f"select count(*) from {table}") == 0


async def test_a_rule_has_its_time_beside_one_write(db: Pool, district: DistrictBuilder) -> None:
    """A check that takes longer than the setting allows refuses the write and names its plug-in."""
    student = await district.student(await district.school(), cell_phone="1")

    async def ponder(candidates: Sequence[Candidate], reader: DistrictReader) -> Sequence[Verdict]:
        await asyncio.sleep(20)
        return [Verdict.ALLOW] * len(candidates)

    service = PreferenceService(db, host_checking(ponder), check_seconds=0.1)
    with pytest.raises(PluginError, match=r"'odd'.*took longer than 0\.1 s"):
        await service.set_person(admin(district), person(student), [CALL])
    assert await district.on(student, CELL) == []
