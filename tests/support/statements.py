"""The statements of sql/ for tests: all of them by name, their headers, and their text as PostgreSQL gets it."""

import re

from gql_server.db.statements import resource_folder, sections
from gql_server.domain.sql import Sql, numbered, slots

FOLDER = resource_folder("sql")
FILES = {
    file.relative_to(FOLDER).with_suffix("").as_posix(): file.read_text(encoding="utf-8")
    for file in sorted(FOLDER.rglob("*.sql"))
    if file.parent.name != "migrations"
}
"""The files of sql/ without the migrations, by their paths."""

TEXTS = {
    f"{file}/{name}" if name else file: part
    for file, text in FILES.items()
    for name, part in (sections(text) or {"": text}).items()
}
"""The text of every statement by its name."""

DENY = "select household, subject_id, contact_point, method, -1::bigint as reasons from candidate"
DENIALS = (
    "select 1::smallint as rule_no, household, subject_id, contact_point, method, on_mask as on_reasons,"
    " off_mask as off_reasons from candidate c"
)
TARGET = (
    "select 1::bigint as subject_id, 'EMAIL'::contact_point_kind as contact_point, 'EMAIL'::method as method,"
    " 1::bigint as on_mask, 0::bigint as off_mask, 0::bigint as skip_if_chosen, 0::bigint as mark_as_chosen"
)
ALLOWED = TARGET
CHANNEL = (
    f"select a.*, false as household, 0 as part, 1 as position, 0::bigint as was_on, 0::bigint as was_chosen,"
    f" '(0,1)'::tid as place, 0::bigint as changed from ({ALLOWED}) a"
)
PREDICTED = f"select c.*, 0::bigint as flipped, 0::bigint as kept from ({CHANNEL}) c"
CURRENT = (
    f"select t.*, 0::bigint as reasons_on, 0::bigint as reasons_chosen, null::tid as place from ({TARGET}) t"
)
POPULATION = "select p.person_id, null::bigint as student_id from person p where p.district_id = :district_id"
FRAGMENTS = {
    "allowed": ALLOWED,
    "cells": TARGET,
    "counts": "batch_cell",
    "channel": CHANNEL,
    "changed": "select 1::bigint as household_id, 1::bigint as reasons",
    "current": CURRENT,
    "decided": Sql(TEXTS["batch/decide"]).fill(channel=Sql(CHANNEL)).text,
    "denials": DENIALS,
    "denied_by": "null::smallint",
    "denied_reasons": "0::bigint",
    "deny_select": DENY,
    "fence": "offset 0",
    "first_denials": TEXTS["rules/first_denials"],
    "key": "g.grade",
    "kind": "'PERSON'",
    "log": TEXTS["log/append"].replace("{kind}", "'PERSON'"),
    "page_size": "100",
    "people": "select person_id from selected",
    "population": POPULATION,
    "predicted": PREDICTED,
    "subject": "person_id",
    "subjects": "select 'PERSON'::subject_kind as subject, 1::bigint as subject_id, null::bigint as member_id",
    "table": "preference",
    "target": TARGET,
    "owner": "person",
    "addresses": "select c.kind as contact_point, c.value as address from contact_point c",
    "page": TEXTS["rules/page"],
    "page_denials": "select null::bigint as reasons",
    "parent": "parent",
}
"""What stands in for each slot; a new slot needs a line here."""

PARENTS = {
    "graph/batch_cell_option": "select null::bigint[] as reachable, 0::bigint as population",
    "graph/history_of_household": "select 1::bigint as household_id",
    "graph/history_of_person": "select 1::bigint as person_id",
    "graph/turned_off_cell": "select 1::bigint as revision_number, false as household, 1::bigint as subject_id",
    "graph/turned_on_cell": "select 1::bigint as revision_number, false as household, 1::bigint as subject_id",
}
"""The rows that correlated statements are correlated to."""

HEADS = {
    "log/append": "with changed as (select 1::bigint as subject_id, 'EMAIL'::contact_point_kind as contact_point,"
    " 'EMAIL'::method as method, 1::bigint as turned_on, 0::bigint as turned_off, 0::bigint as chosen,"
    " 0::bigint as unchosen), next_revision as (select 1::bigint as revision)\n",
}
"""The CTEs that statements read which stand in larger ones."""


def header(text: str) -> str:
    """Return the comment at the head of a statement or file, without the dashes."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return "\n".join(lines)


def listed(name: str, what: str) -> list[str] | None:
    """Return the names under a heading of the header, without what stands in brackets; None without the heading."""
    found = re.search(rf"^{what}:((?:(?!^\w+:).)*)", header(TEXTS[name]), re.DOTALL | re.MULTILINE)
    if not found:
        return None
    names = [part.strip() for part in re.sub(r"\([^)]*\)", "", found[1]).split(",")]
    return [] if names == ["none"] else names


def makes_tables(name: str) -> bool:
    """Return whether a statement creates temporary tables or views."""
    body = "\n".join(line for line in TEXTS[name].splitlines() if not line.startswith("--"))
    return re.match(r"\s*(create temp|do \$\$)", body) is not None


def complete(name: str) -> str:
    """Return a statement as PostgreSQL gets it: slots filled, a compiled read's head before it, `$1` for names."""
    filled = Sql(TEXTS[name].strip())
    filled = filled.fill(**{slot: Sql(FRAGMENTS[slot]) for slot in slots(filled.text)})
    text = _as_admin(HEADS.get(name, "") + filled.text)
    if name in PARENTS:
        text = f"select x.* from ({PARENTS[name]}) parent cross join lateral (\n{text}\n) x"
    if name.startswith("graph/"):
        head = _as_admin(TEXTS["read/viewer"])
        text = f"{head}\nselect * from (\n{text}\n) x".replace(":viewer_person_id", "null::bigint")
    if name == "read/viewer":
        text += "\nselect from viewer"
    return numbered(text)[0]


def _as_admin(text: str) -> str:
    return re.sub(r":viewer_sees_all\b", "true", re.sub(r":viewer_role\b", "'ADMIN'", text))
