"""The rule engine: one statement or one by one, a page or a plan, each reason is denied by the first rule (D10)."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gql_server.db.pool import Pool, open_pool
from gql_server.db.statements import execute, fetch, statement
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.errors import PluginError
from gql_server.hooks import Candidate, Context, Defer, Deny, Rule, Setting, Sql, Verdict
from gql_server.hooks.types import Check
from gql_server.services.rules.limits import RuleLimits
from gql_server.services.rules.page import PageCandidate
from gql_server.services.rules.relation import RelationRules
from gql_server.services.rules.rule_set import RuleSet, applicable_rules
from tests.support.builder import DistrictBuilder
from tests.support.counting import CountingDatabase
from tests.support.page import BOTH, CELL, HOME, answers, denied, host_of, household, person, request_for

pytestmark = pytest.mark.slow

_EXAMPLES = os.environ.get("GQL_SERVER_TEST_EXAMPLES")
VOICE, TEXT = Method.VOICE, Method.TEXT
REASONS = 3
ALL = (1 << REASONS) - 1
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Condition:
    """The same condition in SQL over a row `c` and in Python."""

    sql: Sql
    holds: Callable[[Candidate], bool]


CONDITIONS = [
    Condition(
        Sql("c.subject_id % :n = 0", {"n": 2}), lambda c: (c.person_id or c.household_id or 0) % 2 == 0
    ),
    Condition(
        Sql("c.subject_id % :n = 0", {"n": 3}), lambda c: (c.person_id or c.household_id or 0) % 3 == 0
    ),
    Condition(Sql("c.household"), lambda c: c.household_id is not None),
    Condition(Sql("c.method = 'TEXT'"), lambda c: c.method is TEXT),
    Condition(Sql("c.address is null"), lambda c: c.address is None),
    Condition(Sql("c.contact_point = 'WORK_PHONE'"), lambda c: c.contact_point == "WORK_PHONE"),
]


@dataclass(frozen=True)
class PlainRule:
    """A rule, and what it denies in plain words: of which candidates, for which settings, which bits."""

    rule: Rule
    condition: Condition
    mask: int

    def denies(self, asked: PageCandidate) -> int:
        on = asked.on_mask if Setting.ON in self.rule.settings else 0
        off = asked.off_mask if Setting.OFF in self.rule.settings else 0
        return (on | off) & self.mask if self.condition.holds(asked.candidate) else 0


def checking(condition: Condition, codes: frozenset[str] | None) -> Check:
    async def check(candidates: Sequence[Candidate], reader: object) -> Sequence[Verdict | Deny]:
        return [Deny(reasons=codes) if codes and condition.holds(c) else Verdict.ALLOW for c in candidates]

    return check


@st.composite
def rules(draw: st.DrawFn) -> list[PlainRule]:
    """Up to six rules, written in each of the ways."""
    made = []
    for number in range(draw(st.integers(1, 6))):
        condition, mask = draw(st.sampled_from(CONDITIONS)), draw(st.integers(0, ALL))
        about = draw(st.sampled_from([BOTH, frozenset({Setting.ON}), frozenset({Setting.OFF})]))
        name, codes = f"r{number}", frozenset(CODES[bit] for bit in range(REASONS) if mask >> bit & 1)
        match draw(st.sampled_from(["condition", "select", "null", "where", "check"])):
            case "condition":
                rule, mask = Rule(name, "No.", deny_channel_when=condition.sql, settings=BOTH), -1
            case "select":
                rule = Rule(name, "No.", deny_select=_select(condition, f"{mask}::bigint"), settings=about)
            case "null":  # all reasons, and each row twice
                twice = Sql("{one} union all {one}").fill(one=_select(condition, "null::bigint"))
                rule, mask = Rule(name, "No.", deny_select=twice, settings=about), -1
            case "where" if codes:
                rule = Rule.where(name, "No.", condition.sql, reasons=sorted(codes), settings=about)
            case _:
                rule = Rule(name, "No.", check=checking(condition, codes), settings=about)
        made.append(PlainRule(rule, condition, mask))
    return made


CODES = ("EMERGENCY", "ATTENDANCE", "BEHAVIOR")


def _select(condition: Condition, mask: str) -> Sql:
    select = f"select household, subject_id, contact_point, method, {mask} as reasons from candidate c where "
    return Sql(select + condition.sql.text, condition.sql.args)


channels = st.sampled_from(
    [(kind, method) for kind in (CELL, ContactPointKind.WORK_PHONE, HOME) for method in (VOICE, TEXT)]
)


@st.composite
def pages(draw: st.DrawFn) -> list[PageCandidate]:
    """Channels of persons and households, each once, with the reasons to turn on and off."""
    keys = draw(st.lists(st.tuples(st.integers(1, 6), channels), min_size=1, max_size=12, unique=True))
    page = []
    for number, (kind, method) in keys:
        on = draw(st.integers(0, ALL))
        off = draw(st.integers(0, ALL)) & ~on
        who = (None, number) if kind is HOME else (number, None)
        page.append(PageCandidate(Candidate(*who, kind, method, draw(st.sampled_from([None, "1"]))), on, off))
    return page


def expected(chosen: Sequence[PlainRule], asked: PageCandidate) -> list[tuple[str, int]]:
    """Return who denies which reasons of a candidate: conditions first, then in the given order."""
    left, found = asked.on_mask | asked.off_mask, []
    for each in sorted(chosen, key=lambda each: each.rule.deny_channel_when is None):
        if first := each.denies(asked) & left:
            found.append((each.rule.name, first))
            left &= ~first
    return found


async def in_a_relation(
    db: Pool, district: DistrictBuilder, page: Sequence[PageCandidate], *chosen: Rule
) -> list[list[tuple[str, int]]]:
    """Return what a plan finds that rules deny of the same candidates."""
    request = request_for(district, Context.BATCH, page)
    numbered = dict(enumerate(applicable_rules(host_of(*chosen).rules(request), request), start=1))
    rule_set = RuleSet.of(numbered)
    today = district.district.today()
    async with db.transaction() as conn:
        await execute(conn, "batch/plan/relations")
        fill = Sql(
            "insert into all_channels (household, subject_id, contact_point, method, address, on_mask, off_mask,"
            " denied_by) select c.*, {denied_by} from (values "
            + ", ".join(_row(asked) for asked in page)
            + ") c (household, subject_id, contact_point, method, address, on_mask, off_mask)"
        )
        limits = RuleLimits(statement_seconds=0.5)
        relation = RelationRules(
            db, conn, Context.BATCH, district.id, today, district.bits, limits, lambda _: None
        )
        await relation.ask_conditions(rule_set.conditions, fill)
        await relation.ask_selects(rule_set.selects)
        for number, owned in rule_set.checks.items():
            await relation.ask_check(number, owned)
        rows = [dict(row.items()) for row in await fetch(conn, statement("rules/first_denials"))]
        whole = await conn.fetch(
            "select denied_by as rule_no, household, subject_id, contact_point, method, on_mask | off_mask as reasons"
            " from all_channels where denied_by is not null and on_mask | off_mask <> 0"
        )
        rows += [dict(row.items()) for row in whole]
    found: dict[tuple[object, ...], list[tuple[str, int]]] = {asked.key: [] for asked in page}
    for row in sorted(rows, key=lambda row: row["rule_no"]):
        key = (row["household"], row["subject_id"], row["contact_point"], row["method"])
        found[key].append((numbered[row["rule_no"]].rule.name, row["reasons"]))
    return [found[asked.key] for asked in page]


def _row(asked: PageCandidate) -> str:
    is_household, number, kind, method = asked.key
    address = "null" if asked.candidate.address is None else f"'{asked.candidate.address}'"
    return (
        f"({is_household}, {number}::bigint, '{kind}'::contact_point_kind, '{method}'::method, {address}::text,"
        f" {asked.on_mask}::bigint, {asked.off_mask}::bigint)"
    )


@settings(
    max_examples=int(_EXAMPLES or 20),
    derandomize=_EXAMPLES is None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[*HealthCheck],
)
@given(chosen=rules(), page=pages())
async def test_all_ways_to_ask_agree(
    db: Pool, district: DistrictBuilder, chosen: list[PlainRule], page: list[PageCandidate]
) -> None:
    """All rules in one statement, each rule alone, and the same candidates in a plan's relation give the same first
    denier of every reason, which is the one that the rules' plain words give; the order of the rules matters (D10)."""
    all_rules = [each.rule for each in chosen]
    together = denied(await answers(db, district, page, *all_rules))
    assert together == [expected(chosen, asked) for asked in page]
    assert await in_a_relation(db, district, page, *all_rules) == together
    alone = {rule.name: denied(await answers(db, district, page, rule)) for rule in all_rules}
    for place, asked in enumerate(page):
        for each in chosen:
            assert sum(mask for _, mask in alone[each.rule.name][place]) == each.denies(asked)
    backwards = denied(await answers(db, district, page, *reversed(all_rules)))
    assert backwards == [expected(chosen[::-1], asked) for asked in page]


async def test_a_rule_sees_persons_and_households_together(db: Pool, district: DistrictBuilder) -> None:
    """One relation holds the channels of a whole request: a rule may deny a person's for what a household's is."""
    sees = Sql(
        "select c.household, c.subject_id, c.contact_point, c.method, -1::bigint as reasons from candidate c"
        " where not c.household and exists (select from candidate h where h.household and h.off_mask <> 0)"
    )
    last = Rule("last", "Something must stay on.", deny_select=sees, settings=BOTH)
    page = [person(1, 0, 1), person(2, 0, 1), household(1, 0, 1)]
    assert denied(await answers(db, district, page, last)) == [[("last", 1)], [("last", 1)], []]
    assert denied(await answers(db, district, page[:2], last)) == [[], []]


async def test_methods_are_told_apart(db: Pool, district: DistrictBuilder) -> None:
    """A denial by one method leaves the same contact point by another alone, in one request (D2)."""
    texts = Rule.where("texts", "No texts.", Sql("c.method = 'TEXT'"))
    page = [person(1), person(1, method=TEXT), household(1, method=TEXT), household(1)]
    assert denied(await answers(db, district, page, texts)) == [[], [("texts", 1)], [("texts", 1)], []]


async def test_a_check_cannot_spoil_what_the_server_goes_on_with(db: Pool, district: DistrictBuilder) -> None:
    """A check that changes its candidates by force changes copies: its denial still counts (D10)."""

    async def check(candidates: Sequence[Candidate], reader: object) -> Sequence[Deny]:
        for candidate in candidates:
            object.__setattr__(candidate, "person_id", 99)
        return [Deny()] * len(candidates)

    found = await answers(db, district, [person(1)], Rule("spoils", "No.", check=check))
    assert denied(found) == [[("spoils", 1)]]


async def test_a_denial_says_what_it_has_of_its_own(db: Pool, district: DistrictBuilder) -> None:
    """Code, words and remedy are those of the denial, or else those of its rule."""

    async def check(candidates: Sequence[Candidate], reader: object) -> Sequence[Verdict | Deny]:
        return [Deny(), Deny(code="OWN", because="Own.", remedy="Do.")]

    rule = Rule("looks", "No.", check=check, remedy="Ask.")
    first, second = await answers(db, district, [person(1), person(2)], rule)
    assert [(d.code, d.because, d.remedy) for d in (*first.denials, *second.denials)] == [
        ("LOOKS", "No.", "Ask."),
        ("OWN", "Own.", "Do."),
    ]


FAULTY = [
    (Sql("1 / (c.subject_id - c.subject_id) = 1"), "rule 'r1' failed in the database (22012)."),
    (Sql("c.nothing = 1"), "rule 'r1' failed in the database (42703, line 1, column 1 of its SQL)."),
]


@pytest.mark.parametrize(("sql", "words"), FAULTY)
@pytest.mark.parametrize("by_condition", [False, True])
async def test_the_rule_at_fault_is_named(
    db: Pool, district: DistrictBuilder, sql: Sql, words: str, by_condition: bool
) -> None:
    """Where several rules share a statement that fails, the error names the one at fault alone, on a page and in a
    plan (D10)."""
    fine, faulty = Sql("c.subject_id < 0"), sql
    if by_condition:
        middle = Rule("r1", "No.", deny_channel_when=faulty, settings=BOTH)
    else:
        middle = Rule.where("r1", "No.", faulty)
    chosen = (Rule.where("r0", "No.", fine), middle, Rule.where("r2", "No.", fine))
    for context in (Context.WRITE, Context.DELIVERY):
        with pytest.raises(PluginError) as caught:
            await answers(db, district, [person(1), household(1)], *chosen, context=context)
        assert str(caught.value) == f"Plug-in 'given': {words}"
    if not by_condition:
        with pytest.raises(PluginError) as caught:
            await in_a_relation(db, district, [person(1)], *chosen)
        assert str(caught.value) == f"Plug-in 'given': {words}"


async def test_a_rule_is_not_blamed_for_what_a_condition_leaves_out(
    db: Pool, district: DistrictBuilder
) -> None:
    """The search for the rule at fault asks about what the statement asked about: a rule that would fail on channels
    which a condition leaves out is not named for the fault of another."""
    chosen = (
        Rule("numbers", "No.", deny_channel_when=Sql("c.address !~ '^[0-9]+$'"), settings=BOTH),
        Rule.where("sound", "No.", Sql("c.address::integer < 0")),
        Rule.where("faulty", "No.", Sql("1 / (c.subject_id - c.subject_id) = 1")),
    )
    page = [person(1), person(2, address="not a number")]
    assert denied(await answers(db, district, page, *chosen[:2])) == [[], [("numbers", 1)]]
    for ask in (answers, in_a_relation):
        with pytest.raises(PluginError, match=r"^Plug-in 'given': rule 'faulty' failed"):
            await ask(db, district, page, *chosen)


async def test_the_rule_that_takes_too_long_is_named(dsn: str, db: Pool, district: DistrictBuilder) -> None:
    """Of several rules in one statement the one that exceeds the time is named, in a plan and on a page. That takes one
    statement more for each rule up to it, however many rules follow (D10)."""
    chosen = [
        Rule.where("r0", "No.", Sql("true")),
        Rule.where("r1", "No.", Sql("pg_sleep(60) is not null")),
        *(Rule.where(f"r{place}", "No.", Sql("true")) for place in range(2, 12)),
    ]
    words = "Plug-in 'given': rule 'r1' took longer than 0.5 s in the database."
    with pytest.raises(PluginError) as caught:
        await in_a_relation(db, district, [person(1)], *chosen)
    assert str(caught.value) == words
    async with quick_pool(dsn, 0.5) as pool:
        counting, limits = CountingDatabase(pool), RuleLimits(statement_seconds=0.5)
        with pytest.raises(PluginError) as caught:
            await answers(counting, district, [person(1)], *chosen, limits=limits)
    assert str(caught.value) == words
    asked = [text for text in counting.statements if "all_channels" in text]  # the driver has some of its own
    assert len(asked) == 3  # all, r0, r1


async def test_rules_that_are_slow_only_together_are_asked_alone(dsn: str, district: DistrictBuilder) -> None:
    """Each rule has the time of a statement: those that exceed it together are asked alone, and all answers count. What
    a condition denies is then left out too, for the conditions after it and for all other rules (D10)."""
    slow = "(select true from pg_sleep(0.4)) and "
    chosen = [
        Rule("letters", "No.", deny_channel_when=Sql(slow + "c.address = 'x'"), settings=BOTH),
        Rule("twos", "No.", deny_channel_when=Sql(slow + "c.address::integer = 2"), settings=BOTH),
        Rule.where("threes", "No.", Sql(slow + "10 / (c.address::integer - 2) = 10")),
    ]
    page = [person(number, address=address) for number, address in enumerate("x234")]
    async with quick_pool(dsn, 1) as pool:
        found = await answers(pool, district, page, *chosen, limits=RuleLimits(statement_seconds=1))
    assert denied(found) == [[("letters", 1)], [("twos", 1)], [("threes", 1)], []]


@asynccontextmanager
async def quick_pool(dsn: str, seconds: float) -> AsyncIterator[Pool]:
    """Give a pool whose statements may take so long."""
    pool = await open_pool(dsn, min_size=1, max_size=4, statement_timeout=seconds)
    try:
        yield pool
    finally:
        await pool.close()


UNKNOWN = [
    "select false as household, 99::bigint as subject_id, contact_point, method, 0::bigint as reasons from candidate",
    "select household, subject_id, contact_point, 'TEXT'::method as method, -1::bigint as reasons from candidate",
    "select household, null::bigint as subject_id, contact_point, method, -1::bigint as reasons from candidate",
]


@pytest.mark.parametrize("context", [Context.WRITE, Context.DELIVERY])
@pytest.mark.parametrize("select", UNKNOWN)
async def test_a_denial_of_what_is_no_candidate_stops_all(
    db: Pool, district: DistrictBuilder, select: str, context: Context
) -> None:
    """Somebody else, another method, or nothing at all: a rule that denies what it was not asked about is at fault and
    is named, in every context; for BATCH see test_batch_errors.py (D10)."""
    chosen = [Rule.where("fine", "No.", Sql("true")), Rule("stray", "No.", deny_select=Sql(select))]
    with pytest.raises(PluginError) as caught:
        await answers(db, district, [person(1)], *chosen, context=context)
    assert str(caught.value) == "Plug-in 'given': rule 'stray' denies what is no candidate."


def deferring(name: str, **until: datetime | None) -> Rule:
    """Return a rule that defers by the candidate's address, and denies where the time is None."""

    async def check(candidates: Sequence[Candidate], reader: object) -> Sequence[Verdict | Deny | Defer]:
        verdicts: list[Verdict | Deny | Defer] = []
        for candidate in candidates:
            time = until.get(candidate.address or "", NOON)
            verdicts.append(
                Deny(reasons=frozenset({"EMERGENCY"})) if time is None else Defer(time, f"{name} waits.")
            )
        return verdicts

    return Rule(name, "Quiet hours.", check=check)


async def test_a_delivery_waits_for_the_latest_time(db: Pool, district: DistrictBuilder) -> None:
    """Of several deferrals of a recipient the latest counts, with its rule and its words; whoever is denied waits for
    nothing, and whoever is denied some reasons waits for the others (D10)."""
    later = NOON + timedelta(hours=1)
    page = [
        person(1, address="late"),
        person(2, address="denied"),
        person(3, 3, address="denied"),
        household(4),
    ]
    chosen = [deferring("first", late=later), deferring("second", denied=None)]
    found = await answers(db, district, page, *chosen, context=Context.DELIVERY)
    assert denied(found) == [[], [("second", 1)], [("second", 1)], []]
    waits = [each.deferral and (each.deferral.rule.rule.name, each.deferral.until) for each in found]
    assert waits == [("first", later), None, ("first", NOON), ("first", NOON)]
    assert found[0].deferral is not None
    assert found[0].deferral.because == "first waits."


async def test_only_a_delivery_can_wait(db: Pool, district: DistrictBuilder) -> None:
    """A deferral of a write or a batch is an error of the plug-in (D10)."""
    rule, page = deferring("quiet"), [person(1)]
    words = r"^Plug-in 'given': rule 'quiet' gave a `Defer`, which only a delivery can wait for"
    with pytest.raises(PluginError, match=words):
        await answers(db, district, page, rule)
    with pytest.raises(PluginError, match=words):
        await in_a_relation(db, district, page, rule)


async def test_a_page_is_delivered_to_in_chunks(db: Pool, district: DistrictBuilder) -> None:
    """A page of recipients, persons and households, is asked about once, at most a thousand at a time; what a condition
    has denied is not asked about, and SQL and Python answer side by side (D10)."""
    asked: list[int] = []

    async def check(candidates: Sequence[Candidate], reader: object) -> Sequence[Verdict | Deny]:
        asked.append(len(candidates))
        return [Deny() if (c.person_id or 0) % 100 == 3 else Verdict.ALLOW for c in candidates]

    page = [*(person(n) for n in range(1, 2_001)), *(household(n) for n in range(1, 501))]
    chosen = [
        Rule("looks", "No.", check=check),
        Rule.where("hundreds", "No.", Sql("c.subject_id % 100 in (0, 3)")),
        Rule("tens", "No.", deny_channel_when=Sql("c.subject_id % 1000 = 10"), settings=BOTH),
    ]
    found = denied(await answers(db, district, page, *chosen, context=Context.DELIVERY))
    assert asked == [1_000, 1_000, 497]
    assert found[2] == [("looks", 1)]
    assert found[9] == [("tens", 1)]
    assert found[99] == [("hundreds", 1)]
    assert found[2_002] == [("hundreds", 1)]
    assert sum(bool(each) for each in found) == 2 * 20 + 2 * 5 + 3


async def test_nobody_is_selected_outside_of_a_batch(db: Pool, district: DistrictBuilder) -> None:
    """The relation `selected` is there for every rule that joins it, and empty on a page (D31)."""
    joins = Rule.where(
        "joins", "No.", Sql("not exists (select from selected s where s.person_id = c.subject_id)")
    )
    assert denied(await answers(db, district, [person(1)], joins)) == [[("joins", 1)]]
    assert await answers(db, district, [], joins) == []
