"""The relation `selected` of a plan, and what a plan and a write keep of a denial (D10, D17, D31)."""

from collections.abc import Sequence

import pytest

from gql_server.db.pool import Pool
from gql_server.db.statements import resource_folder
from gql_server.domain.channels import Method
from gql_server.domain.ids import IdKind, encode_id
from gql_server.errors import Rejected
from gql_server.hooks import (
    BatchMode,
    Candidate,
    Deny,
    FilterKind,
    Population,
    Rule,
    RuleRequest,
    Sql,
    Verdict,
    hookimpl,
)
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.preferences import PreferenceCell, PreferenceService
from tests.support.batch import CELL, HOUSEHOLD, Batches, admin, cells, working
from tests.support.builder import DistrictBuilder
from tests.support.server import serving

PAIRS = (
    "select r.contact_id as person_id, r.student_id from relationship r where r.district_id = :district_id"
    " union all select r.contact_id, r.student_id from relationship r where r.district_id = :district_id"
)


class Through:
    """A plug-in with a mode that selects contacts, and rules.

    `through`: whether the mode says through whom. `of_district`: whether it vouches for the people's district.
    """

    def __init__(self, *rules: Rule, through: bool = True, of_district: bool = False) -> None:
        self.rules, self.through, self.of_district = rules, through, of_district

    @hookimpl
    def batch_modes(self) -> list[BatchMode]:
        return [BatchMode("CONTACTS", "Contacts", "Contacts.", FilterKind.STUDENT)]

    @hookimpl
    def select_population(self, mode: str, scope: object) -> Population | None:
        if mode != "CONTACTS":
            return None
        return Population(Sql(PAIRS), through_students=self.through, of_district=self.of_district)

    @hookimpl
    def eligibility_rules(self, request: RuleRequest) -> list[Rule]:
        return list(self.rules)


def host_with(plugin: object) -> PluginHost:
    return PluginHost([resource_folder("plugins")], given={"through": plugin})


@pytest.fixture
async def family(district: DistrictBuilder) -> list[int]:
    """A contact of two students, one of one, and the students; the two contacts live in one household."""
    school = await district.school()
    students = [await district.student(school, f"Sam{n} Lane") for n in range(2)]
    contacts = [await district.person(f"Ada{n} Lane", cell_phone=str(n)) for n in range(2)]
    for student in students:
        await district.relate(student, contacts[0])
    await district.relate(students[0], contacts[1])
    await district.household(*contacts, phone="7")
    return [*contacts, *students]


OF_CANDIDATE = "from selected s where s.person_id = c.subject_id"


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("of_district", [True, False])
async def test_a_person_selected_through_two_students_counts_once(
    db: Pool, district: DistrictBuilder, family: list[int], through: bool, of_district: bool
) -> None:
    """A rule finds in `selected` each student through whom a person was selected, or rows without a student; a row may
    be there twice. Population, counts and candidates have the person once (D11, D16, D17, D31)."""
    twice = Rule.where("twice", "Twice.", Sql(f"(select count(distinct s.student_id) {OF_CANDIDATE}) = 2"))
    alone = Rule.where(
        "alone", "Alone.", Sql(f"(select count(*) > 0 and count(s.student_id) = 0 {OF_CANDIDATE})")
    )
    host = host_with(Through(twice, alone, through=through, of_district=of_district))
    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        batches = Batches(db, host, district, worker)
        run = await batches.run(
            *cells(CELL, "GENERAL"), *cells(HOUSEHOLD, "GENERAL"), mode="CONTACTS", dry_run=True
        )
        row = await batches.row(run)
        assert (row["status"], row["population"]) == ("PLANNED", 2)
        rules = await district.conn.fetch(
            "select r.rule, x.subject_id from batch_exclusion x"
            " join batch_rule r using (district_id, batch_run_id, rule_no)"
            " order by 2"
        )
        assert [tuple(each.values()) for each in rules] == (
            [("twice", family[0])] if through else [("alone", family[0]), ("alone", family[1])]
        )
        assert (await batches.counts(run, CELL, "GENERAL", foreseen=True))["excluded"] == len(rules)
        assert (await batches.counts(run, HOUSEHOLD, "GENERAL", foreseen=True))["people_affected"] == 2
        await batches.apply(run)
    assert [await district.on(person, CELL) for person in family[:2]] == (
        [[], ["GENERAL"]] if through else [[], []]
    )


class Everybody:
    """A plug-in whose mode compares no district, and selects somebody who is not there.

    `of_district`: whether it says that it selects people of the district alone.
    """

    def __init__(self, of_district: bool) -> None:
        self.of_district = of_district

    @hookimpl
    def batch_modes(self) -> list[BatchMode]:
        return [BatchMode("EVERYBODY", "Everybody", "Everybody.", FilterKind.STUDENT)]

    @hookimpl
    def select_population(self, mode: str, scope: object) -> Population | None:
        people = Sql("select person_id from person union all select 999999999")
        return Population(people, of_district=self.of_district) if mode == "EVERYBODY" else None


@pytest.mark.parametrize("of_district", [False, True])
async def test_nobody_of_another_district_is_selected(
    db: Pool, host: PluginHost, district: DistrictBuilder, of_district: bool
) -> None:
    """Where the SQL of a mode names no district, `batchOptions` and the run count the same people, those of the
    district alone, and nobody else is excluded or changed, also where the mode says that all are of it (D38)."""
    await district.person(cell_phone="1")
    neighbor = await (await DistrictBuilder.create(district.conn, host, "birch")).person()
    everybody = PluginHost([resource_folder("plugins")], given={"everybody": Everybody(of_district)})
    cells_on = '{contactPoint: CELL_PHONE, reason: "GENERAL", set: ON}'
    async with serving(db, everybody, district.district.code) as server:
        options = (await server.run('{ batchOptions(mode: "EVERYBODY") { population } }'))["batchOptions"]
        submitted = await server.run(
            f'mutation {{ batchSetPreferences(input: {{mode: "EVERYBODY", cells: [{cells_on}]}})'
            " { run { status population exclusions { edges { node { code } } } } } }"
        )
    assert submitted["batchSetPreferences"]["run"] == {
        "status": "DONE",
        "population": options["population"],
        "exclusions": {"edges": []},
    }
    assert options["population"] == 1
    assert await district.conn.fetchval("select count(*) from preference where person_id = $1", neighbor) == 0


async def test_a_plan_keeps_what_a_denial_says(
    db: Pool, district: DistrictBuilder, family: list[int]
) -> None:
    """A rule's code, words and remedy stand with the rule; what one denial says of its own stands with that denial."""

    async def check(candidates: Sequence[Candidate], reader: object) -> Sequence[Verdict | Deny]:
        own = Deny(code="OWN", because="Own.", remedy="Do.")
        return [Deny() if c.person_id == family[0] else own for c in candidates]

    host = host_with(Through(Rule("looks", "No.", check=check, code="LOOKS_BAD", remedy="Ask.")))
    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        await Batches(db, host, district, worker).run(*cells(CELL, "GENERAL"), mode="CONTACTS")
    rule = await district.conn.fetchrow("select code, because, remedy from batch_rule where rule = 'looks'")
    assert rule == ("LOOKS_BAD", "No.", "Ask.")
    said = await district.conn.fetch(
        "select subject_id, code, because, remedy from batch_exclusion order by 1"
    )
    assert [tuple(each.values()) for each in said] == [
        (family[0], None, None, None),
        (family[1], "OWN", "Own.", "Do."),
    ]


async def test_a_refused_write_says_what_would_help(
    db: Pool, district: DistrictBuilder, family: list[int]
) -> None:
    """RULE_DENIES gives the first rule's words, and its remedy where it names one; cells that nobody denies are not
    named, and nothing is written (D10, D22)."""
    text = Rule.where("texts", "No texts.", Sql("c.method = 'TEXT'"), remedy="Choose another method.")
    calls = Rule.where("all", "Nothing at all.", Sql("true"), reasons=["GENERAL"])
    service = PreferenceService(db, host_with(Through(text, calls)))
    asked = [
        PreferenceCell(CELL, Method.TEXT, "GENERAL", True),
        PreferenceCell(CELL, Method.VOICE, "GENERAL", True),
        PreferenceCell(CELL, Method.VOICE, "EMERGENCY", True),
    ]
    with pytest.raises(Rejected) as caught:
        await service.set_person(admin(district), encode_id(IdKind.PERSON, family[0]), asked)
    assert [(error.code, error.message, error.path) for error in caught.value.errors] == [
        ("RULE_DENIES", "No texts. Choose another method.", ("cells", "0")),
        ("RULE_DENIES", "Nothing at all.", ("cells", "1")),
    ]
    assert await district.conn.fetchval("select count(*) from change_set") == 0
