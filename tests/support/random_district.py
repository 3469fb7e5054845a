"""Random districts with a row of everything: people, their ties, preferences, history, runs and filters.

Dense, so that most questions have an answer: few names, addresses and dates, many ties between few people, the same
two people tied several times over. The rows of every district have the ids 1, 2, 3: a statement that forgets the
district shows.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any

from gql_server.db.protocols import Connection
from gql_server.domain.batch import PlanningStep
from gql_server.domain.changes import ChangeKind, Source
from gql_server.domain.channels import HOUSEHOLD_CHANNELS, PERSON_CHANNELS, ContactPointKind, Method
from gql_server.domain.reasons import ReasonBits
from gql_server.domain.viewer import District
from gql_server.hooks.host import PluginHost
from gql_server.services.districts import create_district, reason_bits
from tests.support.log import packed_change

PEOPLE, HOUSEHOLDS, SCHOOLS, RUNS, FILTERS, OPT_OUTS = 12, 5, 3, 3, 5, 8
"""How many of each there are: their ids are 1 to that number."""

YEARS = (2025, 2026)
GRADES = ("09", "9", "10", "KG")
FIRST_NAMES = ("Ada", "ada", "Öz", "Sam", 'Lee "Lu"')
LAST_NAMES = ("Lane", "O'Neil", "van der Berg", "Ünal")
PHONES = ("555-0100", "555-0101", "555-0102", "555-0103")
EMAILS = ("ada@example.org", "sam@example.org")
_PERSON_KINDS = tuple(kind for kind in ContactPointKind if kind is not ContactPointKind.HOUSEHOLD_PHONE)
_SPANS = ((None, None), (None, None), (-9, 9), (0, None), (None, 0), (0, 0), (-9, -1), (1, None))
_NOON = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
_TIME_ZONES = ("UTC", "America/Chicago", "Pacific/Auckland")
_FILTERS = (
    ("STUDENT", {"any": [{"field": "grade", "in": ["09"]}, {"field": "school", "is": "school_2"}]}),
    ("STUDENT", {"all": [{"not": {"field": "hasMessengerContact", "is": True}}]}),
    ("STUDENT", {"field": "busRoute", "is": "A7"}),  # a field that no plug-in has any more
    ("CENSUS", {"not": {"field": "assignmentTitle", "is": "Teacher"}}),
    ("CENSUS", {"field": "hasContactPoint", "in": ["HOUSEHOLD_PHONE", "EMAIL"]}),
)

Tables = dict[str, list[dict[str, Any]]]


async def load_random_district(conn: Connection, host: PluginHost, code: str, seed: int) -> District:
    """Insert the district of a seed. Call it in a transaction."""
    district = await create_district(conn, code, code.title(), _TIME_ZONES[seed % 3], host.reasons)
    key = district.district_id
    bits = await reason_bits(conn, key)
    tables = _Maker(Random(seed), district.today(), bits).tables()
    for table, rows in tables.items():
        columns = list(rows[0])
        records = [(key, *(row[column] for column in columns)) for row in rows]
        await conn.copy_records_to_table(table, records=records, columns=["district_id", *columns])
    revision = max(row["revision"] for row in tables["change_set"])
    await conn.execute("update district set revision = $2 where district_id = $1", key, revision)
    return district


class _Maker:
    """Makes the rows of one district."""

    def __init__(self, random: Random, today: date, bits: ReasonBits) -> None:
        self.random, self.today, self.bits = random, today, bits

    def tables(self) -> Tables:
        return {
            **self._schools(),
            **self._people(),
            **self._ties(),
            **self._settings(),
            **self._runs(),
            **self._history(),
        }

    def _one(self, values: Iterable[Any]) -> Any:
        return self.random.choice(list(values))

    def _id(self, most: int) -> int:
        return self.random.randint(1, most)

    def _ids(self, most: int) -> list[int]:
        return self.random.sample(range(1, most + 1), self._id(3))

    def _span(self) -> dict[str, date | None]:
        start, end = self._one(_SPANS)
        day = [None if n is None else self.today + timedelta(days=n) for n in (start, end)]
        return {"start_date": day[0], "end_date": day[1]}

    def _mask(self) -> int:
        return self.bits.mask(code for code in self.bits if self.random.random() < 0.3)

    def _moment(self) -> datetime:
        return _NOON + timedelta(hours=self.random.randint(-999, 999), milliseconds=self._id(3) * 250)

    def _lately(self) -> datetime:
        """A moment of the days around which people become members of households, and cease to be (D6)."""
        return datetime.combine(self.today, time(12), UTC) + timedelta(hours=self.random.randint(-260, 36))

    def _some(self, pairs: Iterable[Any], share: float) -> list[Any]:
        return [pair for pair in pairs if self.random.random() < share]

    def _schools(self) -> Tables:
        numbers = range(1, SCHOOLS + 1)
        return {
            "school": [
                {"school_id": n, "source_id": f"S{n}", "name": self._one(["Elm", "Oak"]),
                 "portal_contact_information": self._one([True, False])}
                for n in numbers
            ],
            "calendar": [{"school_id": n, "school_year": year} for n in numbers for year in YEARS],
        }  # fmt: skip

    def _people(self) -> Tables:
        numbers = range(1, PEOPLE + 1)
        return {
            "person": [
                {"person_id": n, "source_id": None if n == PEOPLE else f"P{n}",
                 "first_name": self._one(FIRST_NAMES), "last_name": self._one(LAST_NAMES)}
                for n in numbers
            ],
            "contact_point": [
                {"person_id": n, "kind": kind, "value": self._one(PHONES if kind.is_phone else EMAILS)}
                for n, kind in self._some(_pairs(numbers, _PERSON_KINDS), 0.5)
            ],
            "household": [
                {"household_id": n, "name": self._one(LAST_NAMES), "phone": self._one([*PHONES, None])}
                for n in range(1, HOUSEHOLDS + 1)
            ],
        }  # fmt: skip

    def _ties(self) -> Tables:
        """The first third of the people are students, the second their contacts, the last anything."""
        third = PEOPLE // 3
        return {
            "household_member": [
                {"household_id": self._id(HOUSEHOLDS), "person_id": self._id(PEOPLE), **self._span()}
                for _ in range(2 * PEOPLE)
            ],
            "enrollment": [
                {"person_id": self._id(third + 2), "school_id": self._id(SCHOOLS),
                 "school_year": self._one(YEARS), "grade": self._one(GRADES), **self._span()}
                for _ in range(PEOPLE)
            ],
            "district_assignment": [
                {"person_id": third + self._id(2 * third), "school_id": self._one([None, *range(1, SCHOOLS + 1)]),
                 "title": self._one(["Teacher", "Principal", None]), **self._span()}
                for _ in range(PEOPLE // 2)
            ],
            "relationship": [
                {"student_id": self._id(third), "contact_id": third + self._id(third + 2),
                 "kind": self._one(["Mother", "Father"]), "guardian": self._one([True, False]),
                 "messenger": self._one([True, True, False]), "no_contact": self.random.random() < 0.2, **self._span()}
                for _ in range(2 * PEOPLE)
            ],
        }  # fmt: skip

    def _settings(self) -> Tables:
        channels = {"person_id": (PEOPLE, PERSON_CHANNELS), "household_id": (HOUSEHOLDS, HOUSEHOLD_CHANNELS)}
        person, household = (
            [
                {key: n, "contact_point": channel.contact_point, "method": channel.method,
                 "reasons_on": self._mask(), "reasons_chosen": self._mask()}
                for n, channel in self._some(_pairs(range(1, most + 1), own), 0.5)
            ]
            for key, (most, own) in channels.items()
        )  # fmt: skip
        return {
            "preference": person,
            "household_preference": household,
            "opt_out": [self._opt_out(n) for n in range(1, OPT_OUTS + 1)],
            "saved_filter": [
                {"saved_filter_id": n, "name": f"Filter {9 - n}", "kind": kind, "criteria": json.dumps(criteria)}
                for n, (kind, criteria) in enumerate(_FILTERS, start=1)
            ],
        }  # fmt: skip

    def _opt_out(self, number: int) -> dict[str, Any]:
        address, method = self._one(
            [*_pairs(PHONES, [Method.VOICE, Method.TEXT]), *_pairs(EMAILS, [Method.EMAIL])]
        )
        return {
            "opt_out_id": number, "address": address, "method": method, "reasons": self._one([None, self._mask()]),
            "source": self._one(Source), "evidence": self._one([None, "A reply"]), "recorded_at": self._moment(),
            "lifted_at": self._one([None, self._moment()]),
        }  # fmt: skip

    def _runs(self) -> Tables:
        numbers, states = (
            range(1, RUNS + 1),
            self._one(
                [("DONE", "FAILED", "QUEUED"), ("PLANNED", "QUEUED", "QUEUED"), ("DONE", "DONE", "APPLYING")]
            ),
        )
        rules, blocks = _pairs(numbers, (1, 2)), itertools.count(1)
        return {
            "batch_run": [
                {"batch_run_id": n, "mode": "STUDENTS", "scope": "{}", "keep_chosen": self._one([True, False]),
                 "status": status, "requested_by": "ADMIN", "requested_at": self._moment(),
                 "finished_at": self._one([None, self._moment()]), "population": self._id(9), "total": self._id(9),
                 "done": self._id(9), "errors": self._one([[], ["It broke.", 'At "noon".']]),
                 "plan_only": self._one([True, False]), "queued_at": self._moment(),
                 "planned_at": self._one([None, self._moment()]),
                 "reverts_run_id": self._one([None, *range(1, n)]), **self._fit(), **self._planning()}
                for n, status in zip(numbers, states, strict=True)
            ],
            "batch_cell": [
                {"batch_run_id": n, "contact_point": kind, "reason": reason, "turn_on": self._one([True, False]),
                 "updated": self._id(9), "excluded": self._id(9), "people_affected": self._id(9),
                 "left_alone": self._id(9), "excluded_since": self._id(9)}
                for n, (kind, reason) in self._some(_pairs(numbers, _pairs(ContactPointKind, self.bits)), 0.1)
            ],
            "batch_forecast": [
                {"batch_run_id": 1, "contact_point": kind, "reason": reason, "turn_on": self._one([True, False]),
                 "updated": self._id(9), "excluded": self._id(9), "people_affected": self._id(9)}
                for kind, reason in self._some(_pairs(ContactPointKind, self.bits), 0.2)
            ],
            "batch_sample": [
                {"batch_run_id": n, "place": place, "household": place == 1, "subject_id": 1,
                 "contact_point": kind, "turned_on": self._mask(), "turned_off": 0}
                for (n, place), kind in self._some(_pairs(_pairs(numbers, (1, 2, 3)), ContactPointKind), 0.3)
            ],
            "batch_rule": [
                {"batch_run_id": n, "rule_no": rule, "plugin": f"plugin_{rule}", "rule": "no", "because": "No.",
                 "code": f"NO_{rule}", "remedy": self._one([None, "Ask the office."])}
                for n, rule in rules
            ],
            "batch_exclusion_block": [
                {"batch_run_id": n, "block": next(blocks), "rule_no": rule, "household": False,
                 "subject_ids": self._ids(PEOPLE), "contact_point": kind, "reasons": self._mask(),
                 "because": self._one([None, "Not now."]),
                 "code": self._one([None, "NOT_NOW"]), "remedy": self._one([None, "Ask tomorrow."])}
                for (n, rule), kind in self._some(_pairs(rules, _PERSON_KINDS), 0.5)
            ] + [
                {"batch_run_id": n, "block": next(blocks), "rule_no": rule, "household": True,
                 "subject_ids": self._ids(HOUSEHOLDS),
                 "contact_point": ContactPointKind.HOUSEHOLD_PHONE, "reasons": self._mask(), "because": None,
                 "code": None, "remedy": None}
                for n, rule in rules
            ],
        }  # fmt: skip

    def _fit(self) -> dict[str, Any]:
        """How a plan fitted, of a run that was one."""
        if self._one([True, False]):
            return {"left_population": None, "plan_outdated": None}
        return {"left_population": self._id(9), "plan_outdated": self._one([True, False])}

    def _planning(self) -> dict[str, Any]:
        """How far a plan is, of a run that may be PLANNING."""
        return {
            "planning_step": self._one([None, *PlanningStep]),
            "planning_done": 1,
            "planning_total": self._id(9),
        }

    def _history(self) -> Tables:
        actors = ("ADMIN", "GUARDIAN:P5", "STAFF:P9")
        sets = range(1, 13)
        times = sorted(self._lately() for _ in sets)  # revisions are taken in the order of time (D28)
        return {
            "change_set": [
                {"revision": n, "at": at, "source": self._one(Source), "actor": self._one(actors),
                 "batch_run_id": self._one([None, *range(1, RUNS + 1)])}
                for n, at in zip(sets, times, strict=True)
            ],
            "change": list({
                (revision, row["subject"], row["kind"], row["contact_point"], row["method"]): row
                for revision in sets for row in (self._change(revision) for _ in range(5))
            }.values()),
        }  # fmt: skip

    def _change(self, revision: int) -> dict[str, Any]:
        """A row of the log about a few people or households, with the same masks for all of them or not."""
        household = self.random.random() < 0.4
        channel = self._one(HOUSEHOLD_CHANNELS if household else PERSON_CHANNELS)
        kind = self._one([*ChangeKind, *[ChangeKind.PREFERENCES] * 5])
        preferences = kind is ChangeKind.PREFERENCES
        ids, same = self._ids(HOUSEHOLDS if household else PEOPLE), self._masks()
        each = self._one([True, False])
        return {
            **packed_change(
                revision,
                "HOUSEHOLD" if household else "PERSON",
                kind,
                {n: {} if not preferences else self._masks() if each else same for n in ids},
            ),
            "contact_point": channel.contact_point if preferences else None,
            "method": channel.method if preferences else None,
        }

    def _masks(self) -> dict[str, int]:
        on = self._mask()
        return {"turned_on": on, "turned_off": self._mask() & ~on}


def _pairs(left: Iterable[Any], right: Iterable[Any]) -> Sequence[tuple[Any, Any]]:
    rights = list(right)
    return [(one, other) for one in left for other in rights]
