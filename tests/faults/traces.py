"""All that the runs of a district have left, with ids and revisions replaced by places: equal for twins.

But for the samples of plans: which people they show depends on ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gql_server.db.protocols import Connection

Rows = list[tuple[Any, ...]]

# What names a run or a moment, and what says who worked it: the rest of a run's row must be the same.
_OWN = (
    "district_id", "batch_run_id", "reverts_run_id", "scope", "requested_at", "queued_at", "planned_at",
    "finished_at", "lease_owner", "lease_expires_at", "claims",
)  # fmt: skip
_PLACES = """
with persons as (
  select person_id, row_number() over (order by person_id) as place from person where district_id = $1
),
homes as (
  select household_id, row_number() over (order by household_id) as place from household where district_id = $1
),
runs as (
  select batch_run_id, row_number() over (order by batch_run_id) as place from batch_run where district_id = $1
),
sets as (
  select revision, row_number() over (order by revision) as place from change_set where district_id = $1
)
"""
_QUERIES = {
    "preferences": """
        select false as household, persons.place, contact_point::text, method::text, reasons_on, reasons_chosen
        from preference join persons using (person_id) where district_id = $1
        union all
        select true, homes.place, contact_point::text, method::text, reasons_on, reasons_chosen
        from household_preference join homes using (household_id) where district_id = $1
        order by 1, 2, 3, 4""",
    "runs": f"""
        select runs.place, (to_jsonb(r) - '{{{",".join(_OWN)}}}'::text[])::text as run
        from batch_run r join runs using (batch_run_id) where r.district_id = $1
        order by 1""",
    "cells": f"""
        select runs.place, (to_jsonb(c) - '{{{",".join(_OWN)}}}'::text[])::text as cell
        from batch_cell c join runs using (batch_run_id) where c.district_id = $1
        order by 1, c.contact_point, c.reason""",
    "forecasts": f"""
        select runs.place, (to_jsonb(f) - '{{{",".join(_OWN)}}}'::text[])::text as cell
        from batch_forecast f join runs using (batch_run_id) where f.district_id = $1
        order by 1, f.contact_point, f.reason""",
    "exclusions": """
        select runs.place, x.rule_no, x.household, coalesce(persons.place, homes.place) as subject,
          x.contact_point::text, x.reasons
        from batch_exclusion x join runs using (batch_run_id)
        left join persons on not x.household and persons.person_id = x.subject_id
        left join homes on x.household and homes.household_id = x.subject_id
        where x.district_id = $1
        order by 1, 2, 3, 4, 5, 6""",
    "change sets": """
        select sets.place, s.source::text, s.actor, runs.place as run
        from change_set s join sets using (revision) left join runs using (batch_run_id)
        where s.district_id = $1
        order by 1""",
    "changes": """
        select sets.place, c.kind::text, persons.place as person, homes.place as household,
          c.contact_point::text, c.method::text, c.turned_on, c.turned_off, c.chosen, c.unchosen
        from subject_change c join sets using (revision)
        left join persons on c.subject = 'PERSON' and persons.person_id = c.subject_id
        left join homes on c.subject = 'HOUSEHOLD' and homes.household_id = c.subject_id
        where c.district_id = $1
        order by 1, 2, 3, 4, 5, 6""",
}


@dataclass(frozen=True, slots=True)
class Traces:
    """What a district's runs have left, by kind: rows of plain values."""

    rows: Mapping[str, Rows]
    revisions: tuple[int, ...]
    """Of the change sets, as they are: without gaps from 1."""

    def differences(self, other: "Traces") -> dict[str, tuple[int, int, object, object]]:
        """Return by kind how many rows there are here and there, and the first that differs on each side."""
        found: dict[str, tuple[int, int, object, object]] = {}
        for kind, mine in self.rows.items():
            theirs = other.rows[kind]
            if mine != theirs:
                at = next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), None)
                at = min(len(mine), len(theirs)) if at is None else at
                found[kind] = (len(mine), len(theirs), mine[at : at + 1], theirs[at : at + 1])
        return found


async def traces(conn: Connection, district_id: int) -> Traces:
    """Read all that a district's runs have left, in one snapshot."""
    async with conn.transaction(readonly=True, isolation="repeatable_read"):
        rows = {
            kind: [tuple(row.values()) for row in await conn.fetch(_PLACES + query, district_id)]
            for kind, query in _QUERIES.items()
        }
        revisions = await conn.fetch(
            "select revision from change_set where district_id = $1 order by 1", district_id
        )
    return Traces(rows, tuple(row["revision"] for row in revisions))
