"""A naive log: a list of what each change set did to one subject, written with the product's own statement."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby
from random import Random
from typing import NamedTuple

from gql_server.db.protocols import Connection
from gql_server.db.statements import execute
from gql_server.domain.changes import ChangeKind, SubjectKind
from gql_server.domain.channels import HOUSEHOLD_CHANNELS, PERSON_CHANNELS, Channel
from gql_server.domain.sql import Sql
from gql_server.services.changes import log_slots
from tests.support.log import MASKS, one_change

IDS = (1, 2, 900, 959, 960, 961, 962, 1919, 1920, 5000)
"""Subjects in several buckets, at their edges too."""


class Subject(NamedTuple):
    kind: SubjectKind
    number: int


Masks = tuple[int, int, int, int]
"""What was turned on and off, and what became chosen and ceased to be."""


@dataclass(frozen=True, slots=True)
class Did:
    """What a change set did to one channel of a subject, or, without a channel, to the subject."""

    revision: int
    subject: Subject
    kind: ChangeKind
    channel: Channel | None = None
    masks: Masks = (0, 0, 0, 0)

    @property
    def cell(self) -> tuple[Subject, ChangeKind, Channel | None]:
        return self.subject, self.kind, self.channel


class NaiveLog:
    """Makes random change sets that are consistent: only what is off is turned on."""

    def __init__(self, random: Random, bits: int = 4) -> None:
        self._random, self._bits = random, bits
        self.rows: list[Did] = []
        self.state: dict[tuple[Subject, Channel], tuple[int, int]] = {}
        self.revision = 0

    def step(self) -> list[Did]:
        """Make the next change set and return its rows: uniform or mixed masks, of few people or many."""
        self.revision += 1
        kind = self._random.choice([SubjectKind.PERSON, SubjectKind.PERSON, SubjectKind.HOUSEHOLD])
        rows = self._other_kinds() if self._random.random() < 0.3 else self._preferences(kind)
        self.rows += rows
        return rows

    def _other_kinds(self) -> list[Did]:
        kinds = self._random.sample(
            [ChangeKind.CONTACT_POINTS, ChangeKind.MEMBERSHIP], self._random.randint(1, 2)
        )
        subjects = {
            Subject(self._random.choice([SubjectKind.PERSON, SubjectKind.SCHOOL]), number)
            for number in self._some_ids()
        }
        return [Did(self.revision, subject, kind) for kind in kinds for subject in subjects]

    def _some_ids(self) -> list[int]:
        return self._random.sample(IDS, self._random.choice([1, 1, 3, len(IDS)]))

    def _preferences(self, kind: SubjectKind) -> list[Did]:
        channels = HOUSEHOLD_CHANNELS if kind is SubjectKind.HOUSEHOLD else PERSON_CHANNELS
        asked = self._random.getrandbits(self._bits)
        rows = []
        for channel in self._random.sample(channels, self._random.randint(1, 2)):
            uniform, on = self._random.random() < 0.5, self._random.random() < 0.6
            for number in self._some_ids():
                subject = Subject(kind, number)
                bits = asked if uniform else self._random.getrandbits(self._bits)
                masks = self._change(
                    subject, channel, bits, on=on or (not uniform and self._random.random() < 0.5)
                )
                if any(masks):
                    rows.append(Did(self.revision, subject, ChangeKind.PREFERENCES, channel, masks))
        return rows

    def _change(self, subject: Subject, channel: Channel, bits: int, *, on: bool) -> Masks:
        held, chosen = self.state.get((subject, channel), (0, 0))
        turned_on, turned_off = (bits & ~held, 0) if on else (0, bits & held)
        marked = self._random.random() < 0.3
        became = bits & ~chosen if marked else 0
        ceased = 0 if marked else (turned_on | turned_off) & chosen
        self.state[subject, channel] = (held | turned_on) & ~turned_off, (chosen | became) & ~ceased
        return turned_on, turned_off, became, ceased


def replay(rows: Iterable[Did]) -> dict[tuple[Subject, Channel], tuple[int, int]]:
    """Return what the rows lead to, done to nothing in the order of revisions (D28)."""
    state: dict[tuple[Subject, Channel], tuple[int, int]] = {}
    for row in sorted(rows, key=lambda row: row.revision):
        if row.channel:
            on, chosen = state.get((row.subject, row.channel), (0, 0))
            turned_on, turned_off, became, ceased = row.masks
            state[row.subject, row.channel] = (on | turned_on) & ~turned_off, (chosen | became) & ~ceased
    return {key: masks for key, masks in state.items() if any(masks)}


def last_setters(rows: Iterable[Did], subject: Subject) -> dict[tuple[Channel, int], int]:
    """Return the last revision that set each bit of each channel of a subject."""
    found: dict[tuple[Channel, int], int] = {}
    for row in sorted(rows, key=lambda row: row.revision):
        if row.subject == subject and row.channel:
            touched = reduce(operator.or_, row.masks)
            found |= {(row.channel, bit): row.revision for bit in range(62) if touched >> bit & 1}
    return found


def folded(rows: Iterable[Did], mark: int) -> list[Did]:
    """Return the rows as folded up to the mark: of the old ones the last change of each bit, and of each kind."""
    kept, set_later, chosen_later = [], dict[object, int](), dict[object, int]()
    for row in sorted(rows, key=lambda row: -row.revision):
        if row.revision > mark:
            kept.append(row)
        elif row.kind is not ChangeKind.PREFERENCES:
            if row.cell not in set_later:
                kept.append(row)
            set_later[row.cell] = 0
        else:
            on, off, became, ceased = row.masks
            set_, chosen = set_later.get(row.cell, 0), chosen_later.get(row.cell, 0)
            masks = on & ~set_, off & ~set_, became & ~chosen, ceased & ~chosen
            set_later[row.cell], chosen_later[row.cell] = set_ | on | off, chosen | became | ceased
            if any(masks):
                kept.append(replace(row, masks=masks))
    return kept


async def write(conn: Connection, district_id: int, rows: Sequence[Did]) -> None:
    """Write one change set: preferences by log/append, the rest a row each."""
    for kind, of_kind in groupby(
        sorted(rows, key=lambda row: row.subject.kind), lambda row: row.subject.kind
    ):
        for row in (mine := list(of_kind)):
            if row.channel is None:
                await insert(conn, district_id, one_change(row.revision, kind, row.subject.number, row.kind))
        preferences = [row for row in mine if row.channel]
        if preferences:
            await _append(conn, district_id, preferences, household=kind is SubjectKind.HOUSEHOLD)
    await conn.execute(
        "insert into change_set (district_id, revision, source, actor) values ($1, $2, 'ADMIN', 'ADMIN')",
        district_id, rows[0].revision,
    )  # fmt: skip
    await conn.execute(
        "update district set revision = $2 where district_id = $1", district_id, rows[0].revision
    )


async def insert(conn: Connection, district_id: int, columns: dict[str, object]) -> None:
    names = ["district_id", *columns]
    values = ", ".join(f"${n}" for n in range(1, len(names) + 1))
    await conn.execute(
        f"insert into change ({', '.join(names)}) values ({values})", district_id, *columns.values()
    )


async def _append(conn: Connection, district_id: int, rows: Sequence[Did], *, household: bool) -> None:
    channels = [row.channel for row in rows if row.channel]
    given = Sql(
        "with changed as (select * from unnest(:ids::bigint[], :contact_points::contact_point_kind[],"
        " :methods::method[], :m0::bigint[], :m1::bigint[], :m2::bigint[], :m3::bigint[])"
        f" as c (subject_id, contact_point, method, {', '.join(MASKS)})),"
        " next_revision as (select :revision::bigint as revision) {log}"
    ).fill(log=log_slots(household)["log"])
    await execute(
        conn, given, district_id=district_id, revision=rows[0].revision,
        ids=[row.subject.number for row in rows], contact_points=[channel.contact_point for channel in channels],
        methods=[channel.method for channel in channels],
        **{f"m{n}": [row.masks[n] for row in rows] for n in range(4)},
    )  # fmt: skip
