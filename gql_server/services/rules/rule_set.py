"""The rules of one request: numbered in the host's order, told apart by the way they are written, composed as SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from gql_server.db.statements import statement
from gql_server.domain.reasons import ALL_REASONS
from gql_server.domain.sql import Sql
from gql_server.hooks import Rule, RuleRequest, Setting
from gql_server.hooks.host import OwnedRule

NumberedRules = Mapping[int, OwnedRule]
"""Rules by their numbers, which are positive and ascend in the host's order."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules, each in one of the three ways in which it can be written."""

    conditions: NumberedRules
    """Rules with `deny_channel_when`. They are asked first, where the channels are found."""
    selects: NumberedRules
    """Rules with `deny_select`."""
    checks: NumberedRules
    """Rules in Python."""

    @classmethod
    def of(cls, rules: NumberedRules) -> Self:
        return cls(
            {number: owned for number, owned in rules.items() if owned.rule.deny_channel_when is not None},
            {number: owned for number, owned in rules.items() if owned.rule.deny_select is not None},
            {number: owned for number, owned in rules.items() if owned.rule.check is not None},
        )


def applicable_rules(rules: Sequence[OwnedRule], request: RuleRequest) -> list[OwnedRule]:
    """Return the rules that are about a setting which the request names, conditions first, in the host's order.

    A condition denies a channel before other rules are asked, so it comes before them.
    """
    named = {cell.set for cell in request.cells}
    asked = [owned for owned in rules if owned.rule.settings & named]
    return sorted(asked, key=lambda owned: owned.rule.deny_channel_when is None)


def setting_bits(rule: Rule) -> tuple[int, int]:
    """Return all bits or none for ON, and for OFF: whether the rule is about that setting."""
    on, off = (ALL_REASONS if setting in rule.settings else 0 for setting in (Setting.ON, Setting.OFF))
    return on, off


def denied_by(conditions: NumberedRules) -> Sql:
    """Return an expression over a channel `c`: the number of the first rule whose condition denies it, or null."""
    slots = {
        f"condition_{number}": owned.rule.deny_channel_when
        for number, owned in conditions.items()
        if owned.rule.deny_channel_when is not None
    }
    if not slots:
        return Sql("null::smallint")
    cases = " ".join(f"when ({{condition_{number}}}) then {number}" for number in conditions)
    return Sql(f"(case {cases} end)::smallint").fill(**slots)


def denials(selects: NumberedRules) -> Sql:
    """Return a SELECT of what rules deny, with the columns of rules/denials.sql. It reads `candidate`."""
    if not selects:
        return statement("rules/no_denials")
    slots = {f"rule_{number}": _denials(number, owned.rule) for number, owned in selects.items()}
    return Sql("\nunion all\n".join(f"{{{name}}}" for name in slots)).fill(**slots)


def _denials(number: int, rule: Rule) -> Sql:
    assert rule.deny_select is not None
    on_bits, off_bits = setting_bits(rule)
    select = statement("rules/denials").fill(deny_select=rule.deny_select)
    return select.having(rule_no=number, on_bits=on_bits, off_bits=off_bits)
