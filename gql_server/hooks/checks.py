"""Whether the values that plug-ins give hold what they promise: what is wrong with one, or None."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from gql_server.domain.batch import FilterKind, Setting
from gql_server.domain.ids import IdKind
from gql_server.domain.sql import AMBIENT, Sql, parameters, slots
from gql_server.hooks.types import BatchMode, ContactReason, FieldType, FilterField, Population, Rule

MAX_REASONS = 62
"""A preference is a bit of a bigint; the sign and one bit more stay free."""

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_RULE = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FIELD = re.compile(r"[a-z][A-Za-z0-9]{0,39}")


def problem(value: object) -> str | None:
    """Return what is wrong with a value that a hook gave, in words that follow "it gives", or None."""
    return _CHECKS[type(value)](value)


def sql_problem(sql: object, known: frozenset[str] = frozenset()) -> str | None:
    """Return what is wrong with SQL from a plug-in: every parameter needs a value, no slot may be left."""
    if not isinstance(sql, Sql) or not isinstance(sql.text, str) or not sql.text.strip():
        return "SQL that is not an `Sql` with a text"
    if not isinstance(sql.args, Mapping):
        return "SQL whose `args` are not a mapping"
    if left := slots(sql.text):
        return f"SQL with the unfilled slot {{{left[0]}}}"
    if missing := [name for name in parameters(sql.text) if name not in sql.args.keys() | AMBIENT | known]:
        return f"SQL without a value for :{missing[0]}"
    if taken := AMBIENT & sql.args.keys():
        return f"SQL that sets :{min(taken)}, which is the host's to give"
    return None


def _reason(reason: ContactReason) -> str | None:
    return _coded("reason", reason.code, reason.label, reason.description)


def _mode(mode: BatchMode) -> str | None:
    if not isinstance(mode.filter_kind, FilterKind):
        return f"the mode {mode.code!r} without a FilterKind"
    return _coded("mode", mode.code, mode.label, mode.description)


def _coded(what: str, code: object, *words: object) -> str | None:
    if not _matches(_CODE, code):
        return f"the {what} code {code!r}; write upper-case letters, digits and underscores, at most 40"
    if not all(isinstance(text, str) and text.strip() for text in words):
        return f"the {what} {code!r} without a label and a description"
    return None


def _rule(rule: Rule) -> str | None:
    if not _matches(_RULE, rule.name):
        return f"the rule name {rule.name!r}; write lower-case letters, digits and underscores, at most 40"
    if not isinstance(rule.because, str) or not rule.because.strip():
        return f"the rule {rule.name!r} without words for people"
    ways = [way for way in (rule.bars, rule.denies, rule.check) if way is not None]
    if len(ways) != 1:
        return f"the rule {rule.name!r}, which must have one of `bars`, `denies` and `check`"
    if (
        not isinstance(rule.settings, frozenset)
        or not rule.settings
        or rule.settings - {Setting.ON, Setting.OFF}
    ):
        return f"the rule {rule.name!r}, whose `settings` must be a frozenset of ON, OFF or both"
    if rule.bars is not None and len(rule.settings) != 2:
        return f"the rule {rule.name!r}, which bars whole channels: its `settings` must be ON and OFF"
    if rule.check is not None:
        return None if callable(rule.check) else f"the rule {rule.name!r}, whose `check` cannot be called"
    wrong = sql_problem(ways[0])
    return wrong and f"the rule {rule.name!r} with {wrong}"


def _population(population: Population) -> str | None:
    wrong = sql_problem(population.sql)
    return wrong and f"a population with {wrong}"


def _field(field: FilterField) -> str | None:
    if not _matches(_FIELD, field.name):
        return f"the filter field name {field.name!r}; write letters and digits, lower case first, at most 40"
    if not isinstance(field.kinds, frozenset) or not field.kinds or field.kinds - set(FilterKind):
        return f"the filter field {field.name!r}, whose `kinds` must be a frozenset of FilterKind"
    wrong = _field_type(field) or _field_predicate(field)
    return wrong and f"the filter field {field.name!r}, {wrong}"


def _field_type(field: FilterField) -> str | None:
    if not isinstance(field.type, FieldType):
        return "whose type is not a FieldType"
    if field.type is FieldType.ID and field.id_prefix not in set(IdKind):
        return f"whose `id_prefix` must be one of {', '.join(IdKind)}"
    if field.type is not FieldType.ID and field.id_prefix is not None:
        return "whose `id_prefix` only an ID field may have"
    if field.values is not None and (field.type is not FieldType.TEXT or not field.values):
        return "whose `values` only a TEXT field may have, at least one"
    return None


def _field_predicate(field: FilterField) -> str | None:
    takes_value = field.type is not FieldType.BOOLEAN
    if wrong := sql_problem(Sql(field.predicate), frozenset({"value"})):
        return f"with {wrong}"
    if ("value" in parameters(field.predicate)) is not takes_value:
        return f"whose predicate must {'use' if takes_value else 'not use'} :value"
    return None


def _matches(pattern: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


_CHECKS: dict[type, Callable[[Any], str | None]] = {
    ContactReason: _reason,
    BatchMode: _mode,
    Rule: _rule,
    Population: _population,
    FilterField: _field,
}
