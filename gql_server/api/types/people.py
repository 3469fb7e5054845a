"""People, households, and what ties them to each other and to schools."""

import datetime
from typing import Annotated, TypeAlias

import strawberry

from gql_server.api.enums import ContactPointKind, Method, Role, Source
from gql_server.api.fields import After, OptionalFirst, column, joined, linked
from gql_server.api.scalars import ReasonCode
from gql_server.api.types.common import Connection, Node
from gql_server.api.types.history import CHANGES_OF_PERSON, Change
from gql_server.domain.channels import HOUSEHOLD_CHANNELS, PERSON_CHANNELS
from gql_server.hooks.people import reaches
from gql_server.reads.links import Args, Link, ReadContext

ActiveOnly: TypeAlias = Annotated[bool, strawberry.argument(description="Only what is active today.")]
MessengersOnly: TypeAlias = Annotated[
    bool,
    strawberry.argument(
        description="Only relationships that messages go through: active, messenger, and not marked no-contact."
    ),
]


def _active_only(args: Args, context: ReadContext) -> dict[str, object]:
    return {"active_only": args["activeOnly"]}


def _messenger_only(args: Args, context: ReadContext) -> dict[str, object]:
    return {"messenger_only": args["messengerOnly"]}


def _of_person(table: str, order: str, most: int, each: int = 1) -> Link:
    """Rows of a person's that have a `person_id`; the table has no more of them."""
    return Link(table, "{child}.person_id = {parent}.person_id", order, most=most, fixed=True, each=each)


def _dated(table: str, key: str, order: str, most: int, most_portal: int) -> Link:
    """Rows that share a key with their parent and may be active or not (D6)."""
    on = f"{{child}}.{key} = {{parent}}.{key} and ({{child}}.active or not :active_only::boolean)"
    return Link(table, on, order, _active_only, most=most, most_portal=most_portal)


PERSON_EACH, PREFERENCE_EACH = 2, 10  # preferences list reasons twice
PERSON = Link("person", "{child}.person_id = {parent}.person_id", each=PERSON_EACH)
HOUSEHOLD = Link("household", "{child}.household_id = {parent}.household_id")
SCHOOL = Link("school", "{child}.school_id = {parent}.school_id")


@strawberry.type(description="A phone or email on record.")
class ContactPoint:
    kind: ContactPointKind = column("Which of the contact points it is.")
    value: str = column("The number or address.")


@strawberry.type(description="What is on for one channel: a contact point with a method.")
class ChannelPreference:
    contact_point: ContactPointKind = column("The contact point.")
    method: Method = column("The method.")
    value: str | None = column("The number or address on record; null where there is none.")
    on: list[ReasonCode] = column("The reasons this channel is on for.")
    chosen: list[ReasonCode] = column("Those that are on record as the person's own choice, on or off.")


@strawberry.type(description="A legal stop, by address and method (a STOP reply, an unsubscribe). "
                 "No batch and no administrator turns on what it covers.")  # fmt: skip
class OptOut(Node):
    address: str = column("The number or address that was opted out.")
    method: Method = column("The method it was opted out of.")
    reasons: list[ReasonCode] | None = column("The reasons it covers; null: all of them.")
    source: Source = column("Who recorded it.")
    evidence: str | None = column("What it rests on, in the words of who recorded it.")
    recorded_at: datetime.datetime = column("When it was recorded.")
    lifted_at: datetime.datetime | None = column("When it was lifted; null while it holds.")


@strawberry.type(description="A school of the district.")
class School(Node):
    name: str = column("Its name.")
    source_id: str = column("Its id in the district's own system.")
    portal_contact_information: bool = column(
        "The school's option that portal users may change their contact information. Nothing reads it yet: preferences "
        "are set by administrators."
    )


@strawberry.type(description="A student's time at a school.")
class Enrollment:
    school: School = joined(SCHOOL, "The school.")
    school_year: int = column("The year it ends in: 2027 is 2026-2027.")
    grade: str = column("The grade as the district writes it, such as PK, KG, 01 to 12.")
    start_date: datetime.date | None = column("First day; null: open.")
    end_date: datetime.date | None = column("Last day; null: open.")
    active: bool = column("Whether today is from the first to the last day.")


@strawberry.type(description="A staff member's time at a school or the district office.")
class DistrictAssignment:
    school: School | None = joined(SCHOOL, "The school; null: the district office.")
    title: str | None = column("What they do there.")
    start_date: datetime.date | None = column("First day; null: open.")
    end_date: datetime.date | None = column("Last day; null: open.")
    active: bool = column("Whether today is from the first to the last day.")


@strawberry.type(description="A person's time in a household.")
class HouseholdMembership:
    person: Annotated["Person", strawberry.lazy(__name__)] = joined(PERSON, "The member.")
    household: Annotated["Household", strawberry.lazy(__name__)] = joined(HOUSEHOLD, "The household.")
    active: bool = column("Whether they are a member today.")


@strawberry.type(description="What a contact is to a student.")
class Relationship:
    student: Annotated["Person", strawberry.lazy(__name__)] = joined(
        Link("person", "{child}.person_id = {parent}.student_id"), "The student."
    )
    contact: Annotated["Person", strawberry.lazy(__name__)] = joined(
        Link("person", "{child}.person_id = {parent}.contact_id"), "The contact."
    )
    kind: str = column("Mother, Father, Guardian and so on, as the district words it.")
    guardian: bool = column("Whether the contact is the student's guardian.")
    messenger: bool = column("Whether messages about the student go to the contact.")
    no_contact: bool = column("Whether the two must not be brought in contact.")
    active: bool = column("Whether the relationship holds today.")


@strawberry.type(description="People who live together and share a phone.")
class Household(Node):
    name: str = column("Its name.")
    phone: str | None = column(
        "The household phone; null where there is none. Portal users see it where they are an active member themselves."
    )
    preferences: list[ChannelPreference] = joined(
        Link(
            "household_preference",
            "{child}.household_id = {parent}.household_id",
            "{child}.method",
            most=len(HOUSEHOLD_CHANNELS),
            fixed=True,
            each=PREFERENCE_EACH,
            scan=12,
        ),
        "Household phone preferences: one setting for every active member. Empty for portal users who are none.",
    )

    @linked(_dated("household_membership", "household_id", "{child}.household_member_id", 100, 16))
    def members(self, active_only: ActiveOnly = True) -> list[HouseholdMembership]:
        """Who lives there."""


# D27: of a person's addresses a portal user may not even know which are opted out.
_BY_ADDRESS = """(:viewer_role in ('ADMIN', 'VENDOR') or {parent}.person_id = :viewer_person_id)
  and {child}.address in (
    select c.value from contact_point c where c.district_id = :district_id and c.person_id = {parent}.person_id
    union all
    select h.phone from household_member m
    join household h on h.district_id = m.district_id and h.household_id = m.household_id
    where m.district_id = :district_id and m.person_id = {parent}.person_id
      and active_on(m.start_date, m.end_date, :today))"""
_RELATIONSHIP_ORDER = "{child}.relationship_id"
_MESSENGER = f" and ({reaches('{child}')} or not :messenger_only::boolean)"


@strawberry.type(description="A student, a contact of one, a staff member, or several of these.")
class Person(Node):
    source_id: str | None = column("Their id in the district's own system.")
    first_name: str = column("First name.")
    last_name: str = column("Last name.")
    active: bool = column(
        "Whether they are enrolled, assigned, or a student's contact today; to portal users, by what they may see."
    )
    contact_points: list[ContactPoint] = joined(
        _of_person("contact_point", "{child}.kind", len(ContactPointKind)), "The phones and emails on record."
    )
    preferences: list[ChannelPreference] = joined(
        _of_person(
            "person_preference",
            "{child}.contact_point, {child}.method",
            len(PERSON_CHANNELS),
            each=PREFERENCE_EACH,
        ),
        "One entry for each contact point and method the person could be reached by, whether or not a value is on "
        "record.",
    )
    opt_outs: list[OptOut] = joined(
        Link("opt_out", _BY_ADDRESS, "{child}.opt_out_id", most=100, most_portal=30, scan=5),
        "The legal stops by any address of theirs, lifted ones too.",
    )

    @linked(_dated("household_membership", "person_id", "{child}.household_member_id", 12, 6))
    def households(self, active_only: ActiveOnly = True) -> list[HouseholdMembership]:
        """The households they are a member of."""

    @linked(Link("relationship", "{child}.student_id = {parent}.person_id" + _MESSENGER,
                 _RELATIONSHIP_ORDER, _messenger_only, most=30, most_portal=6))  # fmt: skip
    def contacts(self, messenger_only: MessengersOnly = False) -> list[Relationship]:
        """As a student: the people tied to them. Portal users see their own relationships alone."""

    @linked(Link("relationship", "{child}.contact_id = {parent}.person_id" + _MESSENGER,
                 _RELATIONSHIP_ORDER, _messenger_only, most=100, most_portal=40))  # fmt: skip
    def students(self, messenger_only: MessengersOnly = False) -> list[Relationship]:
        """As a contact: the students they are tied to. Portal users see their own relationships alone."""

    @linked(_dated("enrollment", "person_id", "{child}.school_year desc, {child}.enrollment_id", 30, 30))
    def enrollments(self, active_only: ActiveOnly = True) -> list[Enrollment]:
        """As a student: where they are enrolled, newest year first."""

    @linked(_dated("district_assignment", "person_id", "{child}.district_assignment_id", 30, 30))
    def district_assignments(self, active_only: ActiveOnly = True) -> list[DistrictAssignment]:
        """As a staff member: where they are assigned."""

    @linked(CHANGES_OF_PERSON)
    def history(
        self,
        first: OptionalFirst = None,
        after: After = None,
    ) -> Connection[Change]:
        """What was changed of theirs, newest first. Portal users see no changes of relationships."""


@strawberry.type(description="Who asks, and what they may do.")
class Viewer:
    role: Role = column("The role of the token.")
    person: Person | None = joined(PERSON, "The person the token names.")
    can_change_own_preferences: bool = column(
        "Whether they may change their own preferences today: administrators, where the token names a person."
    )
    why_not: str | None = column("Why not, in words for the person; null where they can.")
