"""Types for people and households, and for their relationships with each other and with schools."""

import datetime
from typing import Annotated, TypeAlias

import strawberry

from gql_server.api.enums import ContactPointKind, Method, Role, Source
from gql_server.api.fields import After, OptionalFirst, column, linked, linked_with_arguments
from gql_server.api.scalars import ReasonCode
from gql_server.api.types.common import Node, RelayConnection
from gql_server.api.types.history import HISTORY_OF_HOUSEHOLD, HISTORY_OF_PERSON, Change
from gql_server.domain.channels import HOUSEHOLD_CHANNELS, PERSON_CHANNELS
from gql_server.hooks.people import reaches
from gql_server.reads.links import Args, ReadContext, RowsLink

ActiveOnly: TypeAlias = Annotated[
    bool,
    strawberry.argument(
        description="Whether to return only rows that are active today (started, and not ended). "
        "If false, all rows are returned."
    ),
]
MessengersOnly: TypeAlias = Annotated[
    bool,
    strawberry.argument(
        description="Whether to return only relationships through which messages are sent: those that are active "
        "today, have the messenger flag, and are not marked no-contact."
    ),
]


def _active_only(args: Args, context: ReadContext) -> dict[str, object]:
    return {"active_only": args["activeOnly"]}


def _messenger_only(args: Args, context: ReadContext) -> dict[str, object]:
    return {"messenger_only": args["messengerOnly"]}


def _of_person(table: str, order: str, max_rows: int, row_cost: int = 1) -> RowsLink:
    """Return the link to a list of rows with the person's id. The graph file has at most `max_rows` for a person."""
    return RowsLink(
        table,
        "{child}.person_id = {parent}.person_id",
        order,
        max_rows=max_rows,
        naturally_bounded=True,
        row_cost=row_cost,
    )


def _dated(table: str, key: str, order: str, max_rows: int, max_rows_portal: int) -> RowsLink:
    """Return the link to a list of rows that share a key with their parent, and that may be active or not (D6)."""
    condition = f"{{child}}.{key} = {{parent}}.{key} and ({{child}}.active or not :active_only::boolean)"
    return RowsLink(table, condition, order, _active_only, max_rows=max_rows, max_rows_portal=max_rows_portal)


PERSON_ROW_COST, PREFERENCE_ROW_COST = 2, 10  # a preference has two lists of reasons
PERSON = RowsLink("person", "{child}.person_id = {parent}.person_id", row_cost=PERSON_ROW_COST)
HOUSEHOLD = RowsLink("household", "{child}.household_id = {parent}.household_id")
SCHOOL = RowsLink("school", "{child}.school_id = {parent}.school_id")


@strawberry.type(description="A phone or email on record.")
class ContactPoint:
    kind: ContactPointKind = column("The kind of contact point.")
    value: str = column("The phone number or email address.")


@strawberry.type(
    description="The preferences of one channel (a contact point and a method). What was never set is off."
)
class ChannelPreference:
    contact_point: ContactPointKind = column("The contact point.")
    method: Method = column("The method.")
    value: str | None = column("The phone number or email address on record; null if there is none.")
    on: list[ReasonCode] = column(
        "The contact reasons for which the channel is on. For all others it is off."
    )
    chosen: list[ReasonCode] = column(
        "The contact reasons whose setting, on or off, people have chosen for themselves."
    )


@strawberry.type(
    description="An opt-out: the legal request not to be contacted at an address by a method, such as a STOP reply or "
    "an unsubscribe. Neither a batch nor an administrator can turn on what it covers."
)
class OptOut(Node):
    address: str = column("The phone number or email address that was opted out.")
    method: Method = column("The method that the opt-out covers.")
    reasons: list[ReasonCode] | None = column(
        "The contact reasons that the opt-out covers; null for all reasons."
    )
    source: Source = column("The way by which the opt-out was recorded.")
    evidence: str | None = column(
        "What the opt-out is based on, in the words of the party that recorded it; null if none was given."
    )
    recorded_at: datetime.datetime = column("When the opt-out was recorded.")
    lifted_at: datetime.datetime | None = column("When the opt-out was lifted; null while it is in force.")


@strawberry.type(description="A school of the district.")
class School(Node):
    name: str = column("The name of the school.")
    source_id: str = column("The school's id in the district's own system.")
    portal_contact_information: bool = column(
        "Whether the school lets portal users change their contact information. It has no effect yet: only "
        "administrators set preferences."
    )


@strawberry.type(description="The enrollment of a student in a school, for a school year.")
class Enrollment:
    school: School = linked(SCHOOL, "The school.")
    school_year: int = column("The school year, as the year that it ends in: 2027 is 2026-2027.")
    grade: str = column("The grade as the district writes it, such as PK, KG, 01 to 12.")
    start_date: datetime.date | None = column("The first day; null if there is no start date.")
    end_date: datetime.date | None = column("The last day; null if there is no end date.")
    active: bool = column("Whether today is from the first to the last day.")


@strawberry.type(description="The assignment of a staff member to a school or to the district office.")
class DistrictAssignment:
    school: School | None = linked(SCHOOL, "The school; null for the district office.")
    title: str | None = column("The title of the staff member there; null if it is not known.")
    start_date: datetime.date | None = column("The first day; null if there is no start date.")
    end_date: datetime.date | None = column("The last day; null if there is no end date.")
    active: bool = column("Whether today is from the first to the last day.")


@strawberry.type(description="The membership of a person in a household.")
class HouseholdMembership:
    person: Annotated["Person", strawberry.lazy(__name__)] = linked(PERSON, "The member.")
    household: Annotated["Household", strawberry.lazy(__name__)] = linked(HOUSEHOLD, "The household.")
    active: bool = column("Whether the person is a member today.")


@strawberry.type(description="The relationship between a student and a contact, such as a parent.")
class Relationship:
    student: Annotated["Person", strawberry.lazy(__name__)] = linked(
        RowsLink("person", "{child}.person_id = {parent}.student_id"), "The student."
    )
    contact: Annotated["Person", strawberry.lazy(__name__)] = linked(
        RowsLink("person", "{child}.person_id = {parent}.contact_id"), "The contact."
    )
    kind: str = column(
        "What the contact is to the student, in the district's words, such as Mother, Father or Guardian."
    )
    guardian: bool = column("Whether the contact is a guardian of the student.")
    messenger: bool = column(
        "The messenger flag: whether messages about the student are sent to the contact."
    )
    no_contact: bool = column(
        "Whether the relationship is marked no-contact. Then no messages about the student are sent to the contact, "
        "whatever the messenger flag says."
    )
    active: bool = column("Whether the relationship is active today.")


@strawberry.type(description="A household: people who live together and share a phone.")
class Household(Node):
    name: str = column("The name of the household.")
    phone: str | None = column(
        "The household phone; null if there is none. Portal users see it only if they are an active member themselves; "
        "for others it is null."
    )
    preferences: list[ChannelPreference] = linked(
        RowsLink(
            "household_preference",
            "{child}.household_id = {parent}.household_id",
            "{child}.method",
            max_rows=len(HOUSEHOLD_CHANNELS),
            naturally_bounded=True,
            row_cost=PREFERENCE_ROW_COST,
            scan_cost=12,
        ),
        "The preferences of the household phone, which apply to every active member. Empty for portal users who are "
        "not an active member.",
    )

    @linked_with_arguments(
        _dated("household_membership", "household_id", "{child}.household_member_id", 100, 16)
    )
    def members(self, active_only: ActiveOnly = True) -> list[HouseholdMembership]:
        """The members of the household."""

    @linked_with_arguments(HISTORY_OF_HOUSEHOLD)
    def history(
        self,
        first: OptionalFirst = None,
        after: After = None,
    ) -> RelayConnection[Change]:
        """The changes to the household's data, newest first. Portal users see those of a household of which they are a
        member today, from the days on which they were a member.
        """


# D27: a portal user must not learn which addresses of other people are opted out.
# An array is looked up in the index whatever is known of the sizes; what is joined may be read whole.
_BY_ADDRESS = """(:viewer_sees_all or {parent}.person_id = :viewer_person_id)
  and {child}.address = any (array(
    select c.value from contact_point c where c.district_id = :district_id and c.person_id = {parent}.person_id
    union all
    select h.phone from household_member m
    join household h on h.district_id = m.district_id and h.household_id = m.household_id
    where m.district_id = :district_id and m.person_id = {parent}.person_id
      and active_on(m.start_date, m.end_date, :today)))"""
_RELATIONSHIP_ORDER = "{child}.relationship_id"
_MESSENGER = f" and ({reaches('{child}')} or not :messenger_only::boolean)"


@strawberry.type(
    description="A person: a student, a contact of a student, a staff member, or several of these."
)
class Person(Node):
    source_id: str | None = column("The person's id in the district's own system; null if they have none.")
    first_name: str = column("The first name.")
    last_name: str = column("The last name.")
    active: bool = column(
        "Whether the person is enrolled, assigned, or a contact of a student today. For portal users, only what they "
        "may see counts."
    )
    contact_points: list[ContactPoint] = linked(
        _of_person("contact_point", "{child}.kind", len(ContactPointKind)),
        "The person's own phones and emails on record. Portal users see only their own.",
    )
    preferences: list[ChannelPreference] = linked(
        _of_person(
            "person_preference",
            "{child}.contact_point, {child}.method",
            len(PERSON_CHANNELS),
            row_cost=PREFERENCE_ROW_COST,
        ),
        "The preferences of the person's own contact points: one entry for each contact point and method, whether or "
        "not a value is on record. Portal users see only their own.",
    )
    opt_outs: list[OptOut] = linked(
        RowsLink("opt_out", _BY_ADDRESS, "{child}.opt_out_id", max_rows=100, max_rows_portal=30, scan_cost=5),
        "The opt-outs of the person's addresses and of the phones of their households, including lifted ones.",
    )

    @linked_with_arguments(_dated("household_membership", "person_id", "{child}.household_member_id", 12, 6))
    def households(self, active_only: ActiveOnly = True) -> list[HouseholdMembership]:
        """The person's memberships of households."""

    @linked_with_arguments(RowsLink("relationship", "{child}.student_id = {parent}.person_id" + _MESSENGER,
                 _RELATIONSHIP_ORDER, _messenger_only, max_rows=30, max_rows_portal=6))  # fmt: skip
    def contacts(self, messenger_only: MessengersOnly = False) -> list[Relationship]:
        """The person's relationships as a student, with their contacts. Portal users see only their own."""

    @linked_with_arguments(RowsLink("relationship", "{child}.contact_id = {parent}.person_id" + _MESSENGER,
                 _RELATIONSHIP_ORDER, _messenger_only, max_rows=100, max_rows_portal=40))  # fmt: skip
    def students(self, messenger_only: MessengersOnly = False) -> list[Relationship]:
        """The person's relationships as a contact, with their students. Portal users see only their own."""

    @linked_with_arguments(
        _dated("enrollment", "person_id", "{child}.school_year desc, {child}.enrollment_id", 30, 30)
    )
    def enrollments(self, active_only: ActiveOnly = True) -> list[Enrollment]:
        """The person's enrollments as a student, the newest school year first."""

    @linked_with_arguments(
        _dated("district_assignment", "person_id", "{child}.district_assignment_id", 30, 30)
    )
    def district_assignments(self, active_only: ActiveOnly = True) -> list[DistrictAssignment]:
        """The person's assignments as a staff member."""

    @linked_with_arguments(HISTORY_OF_PERSON)
    def history(
        self,
        first: OptionalFirst = None,
        after: After = None,
    ) -> RelayConnection[Change]:
        """The changes to the person's data, and to each household of which the person was a member on the day of the
        change, newest first. Portal users see their own, and of households only of those of which they are a member
        today.
        """


@strawberry.type(description="The viewer: the role and person of the token, and what they may do.")
class Viewer:
    role: Role = column("The role of the token.")
    person: Person | None = linked(
        PERSON, "The person that the token names; null if it names nobody, or nobody whom the district knows."
    )
    can_change_own_preferences: bool = column(
        "Whether the viewer may change their own preferences today. Only administrators whose token names a person may."
    )
    why_not: str | None = column(
        "Why the viewer may not change their own preferences, in words for them; null if they may."
    )
