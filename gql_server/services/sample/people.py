"""Generates the sample's people and households, with their contact points and preferences."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from random import Random
from typing import TypeVar

from gql_server.domain.channels import ContactPointKind, Method, batch_method
from gql_server.services.sample import words
from gql_server.services.sample.reasons import Masks
from gql_server.services.sample.rows import Rows

T = TypeVar("T")

Dates = tuple[date | None, date | None]
OPEN: Dates = (None, None)
ENDED: Dates = (date(2024, 8, 12), date(2025, 9, 5))
STARTS_LATER: Dates = (date(2099, 8, 17), None)
"""Dates are constants and active rows have no end date, so that a seed generates the same rows on every day (D6)."""

_KINDS = tuple(kind for kind in ContactPointKind if kind is not ContactPointKind.HOUSEHOLD_PHONE)
_EVERY = (1 << len(_KINDS)) - 1
_HOME, _WORK, _CELL, _EMAIL, _SECONDARY = (1 << n for n in range(len(_KINDS)))
# Typical sets of contact points. One person in four gets the next of all possible combinations instead.
USUAL_STUDENT = (_CELL | _EMAIL, _EMAIL, _CELL, _HOME | _EMAIL, 0, _EMAIL, _CELL | _EMAIL, _HOME | _CELL)
USUAL_ADULT = (
    *(_CELL | _EMAIL, _HOME | _CELL | _EMAIL, _CELL, _HOME | _WORK | _CELL | _EMAIL, _HOME, _WORK | _CELL),
    *(_CELL | _EMAIL, _CELL | _EMAIL | _SECONDARY, _EMAIL, _HOME | _WORK | _CELL, _EVERY, _HOME | _CELL),
)
USUAL_STAFF = (_WORK | _EMAIL, _WORK | _CELL | _EMAIL, _CELL | _EMAIL, _EVERY)
_RECORDED, _LIFTED = datetime(2026, 3, 2, 15, tzinfo=UTC), datetime(2026, 5, 4, 15, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PersonKind:
    """A kind of person: first letter of the source id, typical sets of contact points, and whether they are staff."""

    letter: str
    usual: Sequence[int]
    staff: bool = False


STUDENT = PersonKind("S", USUAL_STUDENT)
CONTACT = PersonKind("P", USUAL_ADULT)
STAFF = PersonKind("T", USUAL_STAFF, staff=True)
STAFF_PARENT = PersonKind("P", USUAL_ADULT, staff=True)


@dataclass(frozen=True, slots=True)
class Household:
    """A household and its phone."""

    household_id: int
    phone: str | None


class People:
    """Adds people and households to `rows`. All choices come from one `random` in a fixed order."""

    def __init__(
        self,
        district_id: int,
        random: Random,
        masks: Masks,
        person_ids: Iterator[int],
        household_ids: Iterator[int],
    ) -> None:
        self.district_id, self.random, self.masks = district_id, random, masks
        self.rows = Rows()
        self._person_ids, self._household_ids = person_ids, household_ids
        self._numbers = {"S": 0, "P": 0, "T": 0, "H": 0}
        self._people = self._phones = self._opt_outs = 0
        self.chance: Callable[[], float] = random.random

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.chance() * len(choices))]

    def person(
        self, person_kind: PersonKind, last: str, home: Household | None, *, full: bool = False
    ) -> tuple[int, str]:
        """Add a person, and return their id and source id. `full`: with every contact point and no opt-out."""
        person_id, source_id = next(self._person_ids), self._source_id(person_kind.letter)
        first = self.pick(words.FIRST_NAMES)
        self.rows.person.append((self.district_id, person_id, source_id, first, last))
        turn, again = divmod(self._people, 4)
        self._people += 1
        # Every fourth person gets the next of all combinations, so that a small district contains all of them.
        on_record = _EVERY if full else self.pick(person_kind.usual) if again else turn & _EVERY
        values = self._values(on_record, first, last, home)
        for kind, value in values:
            self.rows.contact_point.append((self.district_id, person_id, kind, value))
        self._preferences(person_id, person_kind, values, full)
        if not full:
            self._opt_out(values)
        return person_id, source_id

    def household(self, last: str, *, full: bool = False) -> Household:
        """Add a household. Most have a phone, and most phones have preferences (D5)."""
        household_id = next(self._household_ids)
        phone = self._phone() if full or self.chance() < 0.92 else None
        self.rows.household.append((self.district_id, household_id, self._source_id("H"), last, phone))
        if phone and (full or self.chance() < 0.85):
            chosen = self.pick(self.masks.chosen) if self.chance() < 0.06 else 0
            on = self.pick(self.masks.phone)
            self.rows.household_preference.append((self.district_id, household_id, Method.VOICE, on, chosen))
            if self.chance() < 0.08:
                text = self.pick(self.masks.text)
                self.rows.household_preference.append(
                    (self.district_id, household_id, Method.TEXT, text, text)
                )
        return Household(household_id, phone)

    def join(self, home: Household, person_id: int, dates: Dates = OPEN) -> None:
        self.rows.household_member.append((self.district_id, home.household_id, person_id, *dates))

    def _source_id(self, letter: str) -> str:
        self._numbers[letter] += 1
        return f"{letter}{self._numbers[letter]:06d}"

    def _phone(self) -> str:
        self._phones += 1
        return words.phone(self._phones)

    def _values(
        self, on_record: int, first: str, last: str, home: Household | None
    ) -> list[tuple[ContactPointKind, str]]:
        """Return the contact points with their values. A home phone usually repeats the household's phone."""
        values: list[tuple[ContactPointKind, str]] = []
        for n, kind in enumerate(_KINDS):
            if not on_record >> n & 1:
                continue
            if kind is ContactPointKind.HOME_PHONE and home and home.phone and self.chance() < 0.8:
                value = home.phone
            elif kind.is_phone:
                value = self._phone()
            else:
                domain = "example.org" if kind is ContactPointKind.EMAIL else "example.com"
                value = words.email(first, last, self._people, domain)
            values.append((kind, value))
        return values

    def _preferences(
        self, person_id: int, person_kind: PersonKind, values: list[tuple[ContactPointKind, str]], full: bool
    ) -> None:
        """Add preferences: most were set by a batch, some chosen; those for texts are always chosen (D14, D23)."""
        if not full and self.chance() < 0.12:
            return
        add, masks = self.rows.preference.append, self.masks
        for kind, _ in values:
            method = batch_method(kind)
            usual = masks.phone if method is Method.VOICE else masks.email
            on = self.pick(masks.staff if person_kind.staff and self.chance() < 0.5 else usual)
            chosen = self.pick(masks.chosen) if self.chance() < 0.08 else 0
            add((self.district_id, person_id, kind, method, on, chosen))
            if kind is ContactPointKind.CELL_PHONE and self.chance() < 0.15:
                text = self.pick(masks.text)
                add((self.district_id, person_id, kind, Method.TEXT, text, text))

    def _opt_out(self, values: list[tuple[ContactPointKind, str]]) -> None:
        """Record an opt-out for a few people, in turn for all reasons, for some reasons, and lifted since (D19)."""
        rare = 0.05 if self._people < 400 else 0.003
        if not values or self.chance() >= rare:
            return
        kind, address = self.pick(values)
        turn, self._opt_outs = self._opt_outs % 4, self._opt_outs + 1
        texted = kind is ContactPointKind.CELL_PHONE and turn % 2 == 0
        method = Method.TEXT if texted else batch_method(kind)
        reasons = self.pick(self.masks.opt_out) if turn in (1, 3) else None
        lifted = _LIFTED if turn >= 2 else None
        evidence = "Unsubscribed by email" if method is Method.EMAIL else "Replied STOP"
        self.rows.opt_out.append(
            (self.district_id, address, method, reasons, "VENDOR", evidence, _RECORDED, lifted)
        )
