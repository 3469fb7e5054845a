"""The rules of one request: numbered in the host's order, told apart by the way they are written, composed as SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from gql_server.db.statements import statement
from gql_server.domain.batch import ChannelMasks
from gql_server.domain.reasons import ALL_REASONS, ReasonBits
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
    early: NumberedRules = field(default_factory=dict)
    """Of the rules of `Rule.where`, those asked where the channels are found, not with `selects`: see `with_early`."""

    @classmethod
    def of(cls, rules: NumberedRules) -> Self:
        return cls(
            {number: owned for number, owned in rules.items() if owned.rule.deny_channel_when is not None},
            {number: owned for number, owned in rules.items() if owned.rule.deny_select is not None},
            {number: owned for number, owned in rules.items() if owned.rule.check is not None},
        )

    def with_early(self, bits: ReasonBits) -> Self:
        """Return the rules as a plan asks them: some early, where it finds the channels, which costs next to nothing.

        These are rules of the product itself, which are quick and look at no other candidate. Each reason has one at
        most, so that the reasons alone tell who denied them. There are none beside rules in Python: these may take
        long, and what was recorded meanwhile counts.
        """
        early: dict[int, OwnedRule] = {}
        taken = 0
        for number, owned in self.selects.items():
            reasons = rule_reasons(owned.rule, bits)
            if (
                owned.built_in
                and owned.rule.predicate is not None
                and not self.checks
                and not reasons & taken
            ):
                early[number] = owned
                taken |= reasons
        selects = {number: owned for number, owned in self.selects.items() if number not in early}
        return replace(self, selects=selects, early=early)


def rule_reasons(rule: Rule, bits: ReasonBits) -> int:
    """Return the bits of the reasons that a rule of `Rule.where` is for."""
    return ALL_REASONS if rule.reasons is None else bits.mask(rule.reasons)


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


def denied_reasons(early: NumberedRules, masks: ChannelMasks, bits: ReasonBits) -> Sql:
    """Return an expression over a channel `c`: the reasons, of those that `masks` sets, that early rules deny."""
    parts = {}
    for number, owned in early.items():
        on_bits, off_bits = setting_bits(owned.rule)
        asked = (masks.on_mask & on_bits) | (masks.off_mask & off_bits)
        if (reasons := asked & rule_reasons(owned.rule, bits)) and owned.rule.predicate is not None:
            case = Sql("case when ({condition}) then :reasons::bigint else 0 end")
            parts[f"early_{number}"] = case.fill(condition=owned.rule.predicate).having(reasons=reasons)
    if not parts:
        return Sql("0::bigint")
    return Sql("(" + " | ".join(f"{{{name}}}" for name in parts) + ")").fill(**parts)


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
