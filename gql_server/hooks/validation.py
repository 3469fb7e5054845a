"""Whether the values that plug-ins give hold what they promise: what is wrong with one, or None."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from gql_server.domain.batch import FilterKind, Setting
from gql_server.domain.ids import IdKind
from gql_server.domain.sql import AMBIENT, Sql, bare, parameters, slots
from gql_server.hooks.types import BatchMode, ContactReason, FieldType, FilterField, Population, Rule

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_RULE = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FIELD = re.compile(r"[a-z][A-Za-z0-9]{0,39}")
_WRITES = re.compile(
    r"\b(insert\s+into|update\s+(only\s+)?[\w.]+\s+(as\s+)?(\w+\s+)?set|delete\s+from|merge\s+into|truncate"
    r"|for\s+(no\s+key\s+)?update|for\s+(key\s+)?share)\b",
    re.IGNORECASE,
)
_ACTS = re.compile(
    r"\b(set_config|setseed|nextval|setval|pg_notify|pg_(try_)?advisory_\w+|pg_(terminate|cancel)_backend|pg_reload_conf"
    r"|pg_read_(binary_)?file|pg_ls_\w+|pg_logical_emit_message|dblink\w*|lo_\w+)\s*\(",
    re.IGNORECASE,
)
_SELECT = re.compile(r"[\s(]*(select|with|values|table)\b", re.IGNORECASE)


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
    return _shape_problem(sql.text)


@lru_cache(maxsize=256)
def _shape_problem(text: str) -> str | None:
    """Return why a text cannot be part of a statement of the server's that only reads, as far as can be seen."""
    code = bare(text)
    if ";" in code:
        return "SQL with a `;`: give one statement, without it"
    if writes := _WRITES.search(code):
        return f"SQL that writes or locks ({' '.join(writes[0].lower().split())}): it may only read"
    if acts := _ACTS.search(code):
        return f"SQL that calls {acts[1].lower()}: it may only read"
    depth = 0
    for sign in re.findall(r"[()]", code):
        depth += 1 if sign == "(" else -1
        if depth < 0:
            break
    if depth != 0:
        return "SQL whose brackets do not match"
    if _ends_in_comment(text):
        return "SQL that ends in a `--` comment, which would hide what follows: write it above, or as /* … */"
    return None


def _ends_in_comment(text: str) -> bool:
    """Return whether what is written behind a text would be part of a comment."""
    return ";" not in bare(f"{text};")


def select_problem(sql: object) -> str | None:
    """Return what is wrong with a SELECT from a plug-in."""
    if wrong := sql_problem(sql):
        return wrong
    assert isinstance(sql, Sql)
    return None if _SELECT.match(bare(sql.text)) else "SQL that is no SELECT"


def look_problem(text: str) -> str | None:
    """Return what is wrong with a statement that a check sends through its reader; PostgreSQL refuses what writes."""
    code = bare(text)
    return None if _SELECT.match(code) or _WRITES.search(code) else "A reader takes a SELECT."


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
    wrong = _rule_reasons(rule) or _rule_way(rule)
    return wrong and f"the rule {rule.name!r}{wrong}"


def _rule_reasons(rule: Rule) -> str | None:
    if rule.reasons is None:
        return None
    if rule.predicate is None:
        return ", whose `reasons` only `Rule.where` takes: a SELECT gives them itself"
    if not rule.reasons:
        return ", which is for no reason at all: leave `reasons` out to mean all"
    return None


def _rule_way(rule: Rule) -> str | None:
    """Return what is wrong with how the rule is written."""
    if rule.check is not None:
        if not callable(rule.check):
            return ", whose `check` cannot be called"
        plain = inspect.isfunction(rule.check) and not inspect.iscoroutinefunction(rule.check)
        return ", whose `check` is a plain function: write `async def`" if plain else None
    if rule.denies is None or rule.predicate is not None:
        wrong = sql_problem(rule.bars or rule.predicate)
    else:
        wrong = select_problem(rule.denies)
    return wrong and f" with {wrong}"


def _population(population: Population) -> str | None:
    wrong = select_problem(population.sql)
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
