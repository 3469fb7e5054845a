"""Validates the values that plug-ins give. Each function returns what is wrong with one, in words, or None."""

import inspect
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from gql_server.domain.batch import FilterKind, Setting
from gql_server.domain.ids import IdKind
from gql_server.domain.sql import AMBIENT, Sql, bare, parameters, slots
from gql_server.hooks.types import (
    BatchMode,
    ContactReason,
    Context,
    Defer,
    Deny,
    FieldType,
    FilterField,
    Population,
    Rule,
    Verdict,
)

LONGEST_SENTENCE = 300
"""How many characters a sentence for people may have."""

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_CODE_RULE = "`code` must be upper-case letters, digits and underscores, at most 40"
_RULE = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FIELD = re.compile(r"[a-z][A-Za-z0-9]{0,39}")
_WRITES = re.compile(
    r"\b(insert\s+into|update\s+(only\s+)?[\w.]+\s+(as\s+)?(\w+\s+)?set|delete\s+from|merge\s+into|truncate"
    r"|for\s+(no\s+key\s+)?update|for\s+(key\s+)?share)\b",
    re.IGNORECASE,
)
_SIDE_EFFECTS = re.compile(
    r"\b(set_config|setseed|nextval|setval|pg_notify|pg_(try_)?advisory_\w+|pg_(terminate|cancel)_backend|pg_reload_conf"
    r"|pg_read_(binary_)?file|pg_ls_\w+|pg_logical_emit_message|dblink\w*|lo_\w+)\s*\(",
    re.IGNORECASE,
)
_NOT_ONE_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_NO_TEXT_RULE = "a NUL or half a surrogate pair, which no database takes"
_LEFT_OPEN = re.compile(r"""['"\\]|/\*|(?<![\w$])\$""")
_JOINERS = "\u200c\u200d"
"""Invisible characters that Persian and the languages of India are written with."""
_BLANK_LETTERS = "\u115f\u1160\u3164\uffa0"
"""The fillers of Korean, which count as letters and show nothing."""
_SELECT = re.compile(r"[\s(]*(select|with|values|table)\b", re.IGNORECASE)


def value_problem(value: object) -> str | None:
    """Return what is wrong with a value that a hook gave, in words that follow "it gives", or None.

    The value is of one of the types that hooks give, or of a subclass.
    """
    kind = next(kind for kind in type(value).__mro__ if kind in _VALIDATORS)
    return _VALIDATORS[kind](value)


def verdict_problem(verdict: object, context: Context) -> str | None:
    """Return what is wrong with a check's verdict on a candidate, in words that follow "the rule gave", or None."""
    if verdict is Verdict.ALLOW:
        return None
    if isinstance(verdict, Deny):
        return _deny_problem(verdict)
    if not isinstance(verdict, Defer):
        return f"{type(verdict).__name__}, not a verdict"
    if context is not Context.DELIVERY:
        return "a `Defer`, which only a delivery can wait for: give `Deny` or `Verdict.ALLOW`"
    if not isinstance(verdict.until, datetime) or verdict.until.utcoffset() is None:
        return "a `Defer` whose `until` is not a time with a time zone"
    wrong = None if verdict.because is None else _sentence_problem("because", verdict.because)
    return wrong and f"a `Defer` whose {wrong}"


def _deny_problem(deny: Deny) -> str | None:
    if deny.reasons is not None and not isinstance(deny.reasons, frozenset):
        return "a `Deny` whose `reasons` are not a frozenset of codes"
    if deny.reasons is not None and not deny.reasons:
        return "a `Deny` for no reason at all: leave `reasons` out to mean all"
    if deny.code is not None and not _matches(_CODE, deny.code):
        return f"a `Deny` whose {_CODE_RULE}"
    for name, text in (("because", deny.because), ("remedy", deny.remedy)):
        if text is not None and (wrong := _sentence_problem(name, text)):
            return f"a `Deny` whose {wrong}"
    return None


def _sentence_problem(name: str, text: object) -> str | None:
    """Return why a text is no sentence for people: it may be shown in a line of a page, and read aloud."""
    if not isinstance(text, str) or not text.strip():
        return f"`{name}` is not a text"
    if len(text) > LONGEST_SENTENCE or _NOT_ONE_LINE.search(text):
        return f"`{name}` must be one line of at most {LONGEST_SENTENCE} characters"
    if not text.isascii() and any(
        unicodedata.category(sign) == "Cf" for sign in text if sign not in _JOINERS
    ):
        return f"`{name}` must be without invisible characters and without those that turn its direction"
    if not any(sign.isalpha() and sign not in _BLANK_LETTERS for sign in text):
        return f"`{name}` must have a letter that can be seen"
    return None


def sql_problem(sql: object, known: frozenset[str] = frozenset()) -> str | None:
    """Return what is wrong with SQL of a plug-in, or None. `known`: parameters that the server gives a value beside."""
    if not isinstance(sql, Sql) or not isinstance(sql.text, str) or not sql.text.strip():
        return "SQL that is not an `Sql` with a text"
    if not isinstance(sql.args, Mapping):
        return "SQL whose `args` are not a mapping"
    unfilled, named = _names_in(sql.text)
    if unfilled:
        return f"SQL with the unfilled slot {{{unfilled[0]}}}"
    if missing := [name for name in named if name not in sql.args.keys() | AMBIENT | known]:
        return f"SQL without a value for :{missing[0]}"
    if taken := AMBIENT & sql.args.keys():
        return f"SQL that sets :{min(taken)}, which the server gives"
    if strange := [name for name, value in sql.args.items() if _holds_no_text(value)]:
        return f"SQL whose value of :{strange[0]} holds {_NO_TEXT_RULE}"
    return _text_problem(sql.text)


def _holds_no_text(value: object) -> bool:
    """Return whether a value, or one in it, is a text that PostgreSQL cannot be sent."""
    if isinstance(value, str):
        return _NO_TEXT.search(value) is not None
    return isinstance(value, list | tuple | set | frozenset) and any(map(_holds_no_text, value))


@lru_cache(maxsize=256)
def _names_in(text: str) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of the slots and of the parameters in a text. A rule gives the same text for each request."""
    return slots(text), parameters(text)


@lru_cache(maxsize=256)
def _text_problem(text: str) -> str | None:
    """Return why a text cannot be part of a statement that only reads, as far as its text shows, or None."""
    if _NO_TEXT.search(text):
        return f"SQL with {_NO_TEXT_RULE}"
    code = bare(text)
    if left := _LEFT_OPEN.search(code):
        return (
            f"SQL with a stray {left[0]}: end each quote and each comment, do not nest comments, and write"
            " parameters as :name"
        )
    if ";" in code:
        return "SQL with a `;`: give one statement, without it"
    if writes := _WRITES.search(code):
        return f"SQL that writes or locks ({' '.join(writes[0].lower().split())}): it may only read"
    if effect := _SIDE_EFFECTS.search(code):
        return f"SQL that calls {effect[1].lower()}: it may only read"
    if not _brackets_match(code):
        return "SQL whose brackets do not match"
    if _ends_in_comment(text):
        return "SQL that ends in a `--` comment, which would hide what follows: write it above, or as /* … */"
    return None


def _brackets_match(code: str) -> bool:
    depth = 0
    for sign in re.findall(r"[()]", code):
        depth += 1 if sign == "(" else -1
        if depth < 0:
            return False
    return depth == 0


def _ends_in_comment(text: str) -> bool:
    """Return whether text that is appended would be part of a comment."""
    return ";" not in bare(f"{text};")


def select_problem(sql: object) -> str | None:
    """Return what is wrong with a SELECT of a plug-in, or None."""
    if wrong := sql_problem(sql):
        return wrong
    assert isinstance(sql, Sql)
    return None if _is_select(sql.text) else "SQL that is no SELECT"


@lru_cache(maxsize=256)
def _is_select(text: str) -> bool:
    return _SELECT.match(bare(text)) is not None


def reader_sql_problem(text: str, args: Mapping[str, object]) -> str | None:
    """Return why a check's reader does not take a statement, or None. PostgreSQL itself refuses what writes."""
    if _holds_no_text([text, *args.values()]):
        return f"A reader takes no SQL and no value with {_NO_TEXT_RULE}."
    code = bare(text)
    return None if _SELECT.match(code) or _WRITES.search(code) else "A reader takes a SELECT."


def _reason_problem(reason: ContactReason) -> str | None:
    return _coded_problem("reason", reason.code, reason.label, reason.description)


def _mode_problem(mode: BatchMode) -> str | None:
    if not isinstance(mode.filter_kind, FilterKind):
        return f"the mode {mode.code!r} without a FilterKind"
    return _coded_problem("mode", mode.code, mode.label, mode.description)


def _coded_problem(what: str, code: object, *words: object) -> str | None:
    if not _matches(_CODE, code):
        return f"the {what} code {code!r}; write upper-case letters, digits and underscores, at most 40"
    if not all(isinstance(text, str) and text.strip() for text in words):
        return f"the {what} {code!r} without a label and a description"
    return None


def _rule_problem(rule: Rule) -> str | None:
    if not _matches(_RULE, rule.name):
        return f"the rule name {rule.name!r}; write lower-case letters, digits and underscores, at most 40"
    for problem in (_rule_words_problem, _rule_kind_problem, _rule_reasons_problem, _rule_body_problem):
        if wrong := problem(rule):
            return f"the rule {rule.name!r}{wrong}"
    return None


def _rule_words_problem(rule: Rule) -> str | None:
    """Return what is wrong with what the rule says: its code and its sentences."""
    if not isinstance(rule.because, str) or not rule.because.strip():
        return " without words for people"
    if wrong := _sentence_problem("because", rule.because):
        return f", whose {wrong}"
    if not _matches(_CODE, rule.code):
        return f", whose {_CODE_RULE}"
    wrong = None if rule.remedy is None else _sentence_problem("remedy", rule.remedy)
    return wrong and f", whose {wrong}"


def _rule_kind_problem(rule: Rule) -> str | None:
    """Return what is wrong with which of its fields the rule has."""
    ways = [way for way in (rule.deny_channel_when, rule.deny_select, rule.check) if way is not None]
    if len(ways) != 1:
        return ", which must have one of `deny_channel_when`, `deny_select` and `check`"
    if (
        not isinstance(rule.settings, frozenset)
        or not rule.settings
        or rule.settings - {Setting.ON, Setting.OFF}
    ):
        return ", whose `settings` must be a frozenset of ON, OFF or both"
    if rule.deny_channel_when is not None and len(rule.settings) != 2:
        return ", which denies whole channels: its `settings` must be ON and OFF"
    return None


def _rule_reasons_problem(rule: Rule) -> str | None:
    if rule.reasons is None:
        return None
    if rule.predicate is None:
        return ", whose `reasons` only `Rule.where` takes: a SELECT gives them itself"
    if not rule.reasons:
        return ", which is for no reason at all: leave `reasons` out to mean all"
    return None


def _rule_body_problem(rule: Rule) -> str | None:
    """Return what is wrong with the rule's SQL or its check."""
    if rule.check is not None:
        if not callable(rule.check):
            return ", whose `check` cannot be called"
        plain = inspect.isfunction(rule.check) and not inspect.iscoroutinefunction(rule.check)
        return ", whose `check` is a plain function: write `async def`" if plain else None
    if rule.deny_select is None or rule.predicate is not None:
        wrong = sql_problem(rule.deny_channel_when or rule.predicate)
    else:
        wrong = select_problem(rule.deny_select)
    return wrong and f" with {wrong}"


def _population_problem(population: Population) -> str | None:
    for name in ("through_students", "of_district"):
        if not isinstance(getattr(population, name), bool):
            return f"a population whose `{name}` is neither true nor false"
    wrong = select_problem(population.sql)
    return wrong and f"a population with {wrong}"


def _field_problem(field: FilterField) -> str | None:
    if not _matches(_FIELD, field.name):
        return f"the filter field name {field.name!r}; write letters and digits, lower case first, at most 40"
    if not isinstance(field.kinds, frozenset) or not field.kinds or field.kinds - set(FilterKind):
        return f"the filter field {field.name!r}, whose `kinds` must be a frozenset of FilterKind"
    wrong = _field_type_problem(field) or _field_predicate_problem(field)
    return wrong and f"the filter field {field.name!r}, {wrong}"


def _field_type_problem(field: FilterField) -> str | None:
    if not isinstance(field.type, FieldType):
        return "whose type is not a FieldType"
    if field.type is FieldType.ID and field.id_prefix not in set(IdKind):
        return f"whose `id_prefix` must be one of {', '.join(IdKind)}"
    if field.type is not FieldType.ID and field.id_prefix is not None:
        return "whose `id_prefix` only an ID field may have"
    if field.values is not None and (field.type is not FieldType.TEXT or not field.values):
        return "whose `values` only a TEXT field may have, at least one"
    return None


def _field_predicate_problem(field: FilterField) -> str | None:
    takes_value = field.type is not FieldType.BOOLEAN
    if wrong := sql_problem(Sql(field.predicate), frozenset({"value"})):
        return f"with {wrong}"
    if ("value" in parameters(field.predicate)) is not takes_value:
        return f"whose predicate must {'use' if takes_value else 'not use'} :value"
    return None


def _matches(pattern: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


_VALIDATORS: dict[type, Callable[[Any], str | None]] = {
    ContactReason: _reason_problem,
    BatchMode: _mode_problem,
    Rule: _rule_problem,
    Population: _population_problem,
    FilterField: _field_problem,
}
