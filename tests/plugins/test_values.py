"""The values of rules: what they say without being told, and which verdicts of a check the server takes (D10)."""

from datetime import UTC, datetime

import pytest

from gql_server.domain.sql import parameters
from gql_server.hooks import Context, Defer, Deny, Rule, Setting, Sql, Verdict
from gql_server.hooks.validation import LONGEST_SENTENCE, reader_sql_problem, sql_problem, verdict_problem

MORNING = datetime(2026, 9, 1, 7, tzinfo=UTC)
BOTH = frozenset({Setting.ON, Setting.OFF})


def test_a_rules_code_is_its_name_in_upper_case() -> None:
    """A rule without a code has the one that its name gives, however it is written; another code is kept."""
    whole = Rule("quiet_phone", "No.", deny_channel_when=Sql("true"), settings=BOTH)
    assert [whole.code, Rule.where("quiet_phone", "No.", Sql("true")).code] == ["QUIET_PHONE"] * 2
    assert Rule.where("quiet_phone", "No.", Sql("true"), code="QUIET").code == "QUIET"


def test_the_denials_of_a_condition_name_the_channel() -> None:
    """The SELECT that `Rule.where` writes names the contact point and the method of what it denies (D2)."""
    rule = Rule.where("r", "No.", Sql("c.address = :a", {"a": "1"}))
    assert rule.deny_select is not None
    assert "c.contact_point, c.method" in rule.deny_select.text
    assert rule.deny_select.args == {"a": "1"}


def test_a_condition_keeps_the_values_of_its_author() -> None:
    """A parameter of the author's is never taken for the one in which `Rule.where` puts the reasons (D10)."""
    condition = Sql("c.address = any(:rule_reasons) and :today > :a", {"rule_reasons": ["1"], "a": 2})
    rule = Rule.where("r", "No.", condition, reasons=["EMERGENCY"])
    assert rule.deny_select is not None
    assert sorted(map(str, rule.deny_select.args.values())) == ["2", "['1']", "['EMERGENCY']"]
    assert sorted(parameters(rule.deny_select.text)) == sorted(
        [*rule.deny_select.args, "district_id", "today"]
    )


@pytest.mark.parametrize("context", Context)
@pytest.mark.parametrize(
    "verdict",
    [
        Verdict.ALLOW,
        Deny(),
        Deny(code="TOO_LATE", because="It is late.", reasons=frozenset({"GENERAL"}), remedy="Wait."),
        Deny(because="“It’s too late”, he said: 7 °C, 東京."),
        Deny(because="x" * LONGEST_SENTENCE),
        Deny(because="نمی\u200cخواهند."),
    ],
)
def test_a_sound_verdict_is_taken_in_every_context(context: Context, verdict: object) -> None:
    """A check may allow and deny wherever it is asked, in words of any language."""
    assert verdict_problem(verdict, context) is None


@pytest.mark.parametrize(
    ("verdict", "problem"),
    [
        (None, "NoneType, not a verdict"),
        (True, "bool, not a verdict"),
        (Deny, "type, not a verdict"),
        (Deny(reasons="GENERAL"), "`reasons` are not a frozenset"),  # type: ignore[arg-type]
        (Deny(reasons=frozenset()), "for no reason at all"),
        (Deny(because="\u200b"), "`because` must be without invisible"),
        (Deny(because="Call \u202e5550100 now."), "`because` must be without invisible"),
        (Deny(remedy="\u3164"), "`remedy` must have a letter that can be seen"),
        (Deny(remedy="—"), "`remedy` must have a letter that can be seen"),
        (Deny(code="late"), "`code` must be upper-case letters"),
        (Deny(code="X" * 41), "`code` must be upper-case letters"),
        (Deny(because=""), "`because` is not a text"),
        (Deny(because=3), "`because` is not a text"),  # type: ignore[arg-type]
        (Deny(because="One.\nTwo."), "`because` must be one line"),
        (Deny(remedy="x" * (LONGEST_SENTENCE + 1)), "`remedy` must be one line of at most 300"),
        (Deny(remedy="\ud800"), "`remedy` must be one line"),
    ],
)
def test_an_unsound_verdict_is_refused(verdict: object, problem: str) -> None:
    """Whatever else a check gives is a fault that can be told without its words: they may be about a person."""
    told = verdict_problem(verdict, Context.BATCH)
    assert told is not None
    assert problem in told
    assert "late" not in told


def test_only_a_delivery_can_be_deferred() -> None:
    """`Defer` is for DELIVERY alone, and its time says in which time zone it is (D10)."""
    assert verdict_problem(Defer(MORNING), Context.DELIVERY) is None
    for context in (Context.BATCH, Context.WRITE):
        assert "only a delivery" in (verdict_problem(Defer(MORNING), context) or "")
    naive = Defer(MORNING.replace(tzinfo=None))
    assert "time zone" in (verdict_problem(naive, Context.DELIVERY) or "")
    assert "`because`" in (verdict_problem(Defer(MORNING, "One.\nTwo."), Context.DELIVERY) or "")


@pytest.mark.parametrize(
    "text",
    [
        r"c.address = E'O\'Brien; :a'",
        "c.address = $$it's (; :a$$ or c.address = $q$ $$ ' $q$",
        r"c.address = e'\\' or c.address = date'2026-01-01'::text or c.address = 'a\'",
        "c.address = 'it''s' /* isn't; */ or true",
    ],
)
def test_every_kind_of_literal_is_taken(text: str) -> None:
    """Quotes, semicolons and parameters in a literal mean nothing, in each way in which PostgreSQL writes one."""
    assert sql_problem(Sql(text)) is None


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("c.address = 'it's'", "'"),
        (r"c.address = E'it\'", "'"),
        ("c.\"address = '1'", '"'),
        ("c.address = $$1", "$"),
        ("c.address = $1", "$"),
        ("true /* /* nested */", "/*"),
        ("true /* /* nested */ */", "/*"),
        ("E'a'\n'b\\' and c.address = \\'c'", "\\"),
    ],
)
def test_what_does_not_end_is_refused(text: str, sign: str) -> None:
    """A quote or a comment that does not end would swallow the SQL of another plug-in, and blame that."""
    assert f"a stray {sign}:" in (sql_problem(Sql(text)) or "")


def test_a_comment_ends_at_either_end_of_a_line() -> None:
    """PostgreSQL ends a `--` comment at a carriage return too: what follows it is SQL."""
    assert "`;`" in (sql_problem(Sql("true -- all\r; select 1")) or "")


def test_a_reader_takes_no_text_that_postgresql_cannot_be_sent() -> None:
    """NUL, or half a surrogate pair, in SQL or in a value is a fault of the check, not a lost connection."""
    assert reader_sql_problem("select :a", {"a": ["one"]}) is None
    assert "NUL" in (reader_sql_problem("select '\0'", {}) or "")
    assert "NUL" in (reader_sql_problem("select :a", {"a": ["\ud800"]}) or "")
