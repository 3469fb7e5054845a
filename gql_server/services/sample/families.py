"""Generates families and staff: their households, relationships, enrollments and assignments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import Enum, auto

from gql_server.services.sample import words
from gql_server.services.sample.people import (
    CONTACT,
    ENDED,
    OPEN,
    STAFF,
    STAFF_PARENT,
    STARTS_LATER,
    STUDENT,
    Dates,
    Household,
    People,
)

SCHOOL_YEAR = 2027
THIS_YEAR: Dates = (date(2026, 8, 17), None)
LAST_YEAR: Dates = (date(2025, 8, 18), date(2026, 6, 5))
WITHDRAWN: Dates = (date(2026, 8, 17), date(2026, 9, 4))


class FamilyType(Enum):
    """The special case that a family stands for. The first families get one each, in order; later ones at random."""

    TOGETHER = auto()
    SINGLE = auto()
    SEPARATED = auto()
    NO_CONTACT = auto()
    NO_MESSENGER = auto()
    MOVED = auto()
    WITHDRAWN = auto()
    TRANSFERRED = auto()
    STARTS_LATER = auto()
    STAFF_PARENT = auto()
    FORMER_CONTACT = auto()
    RELATIVE = auto()


_TYPES = tuple(FamilyType)
_RANDOM_TYPES = (
    *(FamilyType.TOGETHER,) * 40,
    *(FamilyType.SINGLE,) * 18,
    *(FamilyType.SEPARATED,) * 16,
    *(FamilyType.RELATIVE,) * 10,
    *(FamilyType.MOVED,) * 4,
    *(FamilyType.STAFF_PARENT,) * 3,
    *(FamilyType.NO_MESSENGER, FamilyType.NO_CONTACT, FamilyType.WITHDRAWN) * 2,
    *(FamilyType.TRANSFERRED, FamilyType.FORMER_CONTACT, FamilyType.STARTS_LATER),
)
_CHILDREN = (1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 4)


@dataclass(slots=True)
class Family:
    """A family that is being generated: its household and its children so far."""

    type: FamilyType
    last: str
    home: Household
    children: list[int] = field(default_factory=list)
    messenger: bool = True


class Families:
    """Adds families and staff to the rows of `people`. `schools`: their ids by level."""

    def __init__(self, people: People, schools: Mapping[str, Sequence[int]]) -> None:
        self._people, self._schools = people, schools
        self._levels = tuple(schools)
        self._families = self._staff = 0
        self._shared: int | None = None
        self.guardian = self.student = self.staff = ""

    def family(self, most: int) -> int:
        """Add a family with at most `most` students, and return their number."""
        people, first = self._people, self._families == 0
        family_type = _TYPES[self._families] if self._families < len(_TYPES) else people.pick(_RANDOM_TYPES)
        self._families += 1
        last = people.pick(words.LAST_NAMES)
        family = Family(
            family_type,
            last,
            people.household(last, full=first),
            messenger=family_type is not FamilyType.NO_MESSENGER,
        )
        for _ in range(min(most, 2 if first else people.pick(_CHILDREN))):
            self._child(family, full=first)
        self._parents(family, full=first)
        self._other_contacts(family)
        return len(family.children)

    def staff_member(self) -> None:
        """Add a staff member. The assignment of every ninth has ended."""
        people, n = self._people, self._staff
        self._staff += 1
        person_id, source_id = people.person(STAFF, people.pick(words.LAST_NAMES), None, full=n == 0)
        self.staff = self.staff or source_id
        self._assign(person_id, ENDED if n % 9 == 8 else (date(2019, 8, 12), None), office=n % 12 == 11)
        if n % 10 == 3:
            self._assign(person_id, OPEN)

    def _child(self, family: Family, *, full: bool) -> None:
        people = self._people
        child, source_id = people.person(STUDENT, family.last, family.home, full=full)
        self.student = self.student or source_id
        people.join(family.home, child)
        family.children.append(child)
        level = people.pick(self._levels)
        school = self._schools[level][0] if full else people.pick(self._schools[level])
        grades = words.LEVELS[level]
        n = int(people.chance() * len(grades))
        family_type = family.type if len(family.children) == 1 else FamilyType.TOGETHER
        dates = {FamilyType.WITHDRAWN: WITHDRAWN, FamilyType.STARTS_LATER: STARTS_LATER}.get(
            family_type, THIS_YEAR
        )
        if family_type is FamilyType.TRANSFERRED:
            self._enroll(child, self._schools[level][-1], grades[n], WITHDRAWN)
        self._enroll(child, school, grades[n], dates)
        if n > 0 and people.chance() < 0.8:
            self._enroll(child, school, grades[n - 1], LAST_YEAR, SCHOOL_YEAR - 1)

    def _parents(self, family: Family, *, full: bool) -> None:
        people, family_type = self._people, family.type
        person_kind = STAFF_PARENT if family_type is FamilyType.STAFF_PARENT else CONTACT
        mother, source_id = people.person(person_kind, family.last, family.home, full=full)
        self.guardian = self.guardian or source_id
        people.join(family.home, mother)
        self._relate(family, mother, words.MOTHER, messenger=family.messenger)
        if family_type is FamilyType.STAFF_PARENT:
            self._assign(mother, OPEN)
        if family_type is FamilyType.SINGLE:
            return
        apart = family_type in (FamilyType.SEPARATED, FamilyType.NO_CONTACT)
        last = people.pick(words.LAST_NAMES) if apart else family.last
        home = people.household(last) if apart else family.home
        father, _ = people.person(CONTACT, last, home, full=full)
        people.join(home, father)
        no_contact = family_type is FamilyType.NO_CONTACT
        messenger = family.messenger and (full or people.chance() < 0.8)
        self._relate(family, father, words.FATHER, messenger=messenger, no_contact=no_contact)
        if apart:
            self._second_home(family, home, last, no_contact=no_contact)

    def _second_home(self, family: Family, home: Household, last: str, *, no_contact: bool) -> None:
        """Make the children members of the second household; with `no_contact` their membership has ended."""
        people = self._people
        for child in family.children:
            people.join(home, child, ENDED if no_contact else OPEN)
        if people.chance() < 0.4:
            partner, _ = people.person(CONTACT, last, home)
            people.join(home, partner)
            self._relate(
                family, partner, "Stepparent", guardian=False, messenger=False, no_contact=no_contact
            )

    def _other_contacts(self, family: Family) -> None:
        """Add contacts who are not parents: relatives, contacts shared with another family, former and future ones."""
        people, family_type = self._people, family.type
        if family_type is FamilyType.MOVED:
            old = people.household(family.last)
            for child in family.children:
                people.join(old, child, ENDED)
        if family_type is FamilyType.FORMER_CONTACT:
            former, _ = people.person(CONTACT, people.pick(words.LAST_NAMES), None)
            people.join(family.home, former, ENDED)
            self._relate(family, former, "Stepparent", guardian=False, dates=ENDED)
        if family_type is FamilyType.STARTS_LATER:
            later, _ = people.person(CONTACT, family.last, None)
            people.join(family.home, later, STARTS_LATER)
            self._relate(family, later, people.pick(words.OTHERS), dates=STARTS_LATER)
        if family_type is FamilyType.RELATIVE:
            self._shared, _ = people.person(CONTACT, family.last, family.home)
            people.join(family.home, self._shared)
            self._relate(family, self._shared, people.pick(words.OTHERS), messenger=people.chance() < 0.5)
        elif self._shared is not None and people.chance() < 0.1:
            self._relate(family, self._shared, "Neighbor", guardian=False, messenger=people.chance() < 0.3)

    def _relate(
        self, family: Family, contact: int, kind: str, *, guardian: bool = True, messenger: bool = True,
        no_contact: bool = False, dates: Dates = OPEN,
    ) -> None:  # fmt: skip
        messenger = messenger and family.messenger
        for child in family.children:
            self._people.rows.relationship.append(
                (self._people.district_id, child, contact, kind, guardian, messenger, no_contact, *dates)
            )

    def _enroll(self, child: int, school: int, grade: str, dates: Dates, year: int = SCHOOL_YEAR) -> None:
        self._people.rows.enrollment.append((self._people.district_id, child, school, year, grade, *dates))

    def _assign(self, person_id: int, dates: Dates, *, office: bool = False) -> None:
        people = self._people
        school = None if office else people.pick(self._schools[people.pick(self._levels)])
        people.rows.district_assignment.append(
            (people.district_id, person_id, school, people.pick(words.TITLES), *dates)
        )
