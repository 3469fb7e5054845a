"""The targets of a run: what is to be done with each of its channels, decided from a preference as it was read."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gql_server.db.protocols import Connection, Row
from gql_server.db.statements import fetchrow, fetchval, statement
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.sql import Sql
from gql_server.services.batch.plan_context import Plan
from gql_server.services.batch.run import Run
from gql_server.services.changes import table_slots

RANGE = 75_000
"""How many candidates one statement makes targets of, about: what it does in less than a second."""
_SAMPLED = 5_000
"""How many candidates are looked at to divide them into ranges, about."""
_FIRST, _LAST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Subjects:
    """People, or households, by their ids: after one and up to another."""

    household: bool
    after: int = _FIRST
    upto: int = _LAST


def everybody(plan: Plan) -> list[Subjects]:
    """Return the people and the households of a plan, each if the run names a contact point of theirs."""
    return [Subjects(household) for household in (False, True) if _contact_points(plan, household)]


async def subject_ranges(plan: Plan) -> list[Subjects]:
    """Return ranges of about RANGE candidates or fewer each, which are everybody together."""
    candidates = plan.progress.candidates
    ranges, ends = -(-candidates // RANGE), None
    if ranges > 1:
        percent = min(100.0, 100.0 * _SAMPLED / candidates)
        ends = await fetchval(plan.conn, "batch/plan/range_ends", ranges=ranges, percent=percent)
    bounds = [_FIRST, *(ends or ()), _LAST]
    return [Subjects(each.household, *ids) for each in everybody(plan) for ids in pairwise(bounds)]


def channels_to_write(plan: Plan, subjects: Subjects, *, size: int) -> Sql:
    """Return a SELECT of the channels of some subjects with anything to do, in parts of `size` subjects."""
    household, ids = subjects.household, {"after": subjects.after, "upto": subjects.upto}
    current = statement("batch/plan/current").fill(**table_slots(household))
    channels = statement("batch/plan/channels_to_write").fill(
        allowed=statement("batch/plan/allowed").having(household=household, **ids),
        current=current.having(contact_points=_contact_points(plan, household), **ids),
    )
    return channels.having(household=household, size=size)


def decided(run: Run, channels: Sql) -> Sql:
    """Return a SELECT of what the run does with each of the channels: see sql/batch/decide.sql."""
    return statement("batch/decide").fill(channel=channels).having(keep_chosen=run.keep_chosen)


async def write_targets(
    conn: Connection, run: Run, channels: Sql, *, household: bool, state: str, chunks: int
) -> Row:
    """Decide what the run does with the channels, and write it as chunks that follow the first `chunks`.

    Return chunks (how many there are now), total (people or households) and unknown: see
    sql/batch/plan/write_targets.sql, which says what `channels` selects.
    """
    write = statement("batch/plan/write_targets").fill(decided=decided(run, channels))
    row = await fetchrow(conn, write, **run.key, household=household, state=state, chunks=chunks)
    assert row is not None
    return row


def _contact_points(plan: Plan, household: bool) -> Sequence[ContactPointKind]:
    """Return the contact points that the run names, those of people or those of households."""
    named = (masks.contact_point for masks in plan.masks)
    return [each for each in named if (each is ContactPointKind.HOUSEHOLD_PHONE) is household]
