"""A small district in which every value says whose it is: `maple:mia:cell_phone`. What leaks is seen at a glance.

Mia is the mother of Sam and Kim, Dan is Sam's father and lives apart, Gran lives with Mia and is a contact of Sam.
Ann goes to school, lives with Mia too, and is a contact of Kim. Lee may not be contacted about Sam, though he is
his uncle. Pat lives with Mia, who may not be contacted about him, though she is his aunt. Rob was Mia's ward once.
Tom teaches, and is the father of Zoe. The district office knows the same people by the same source ids in every
district.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from gql_server.db.protocols import Connection
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.hooks.host import PluginHost
from tests.support.builder import ENDED, DistrictBuilder
from tests.support.log import one_change

STUDENTS = ("sam", "kim", "ann", "pat", "rob", "zoe")
CONTACTS = ("mia", "dan", "gran", "lee", "tom")
HOUSEHOLDS = {
    "home": ("mia", "sam", "kim", "gran", "ann", "pat"),
    "flat": ("dan", "sam"),
    "farm": ("lee", "rob"),
    "villa": ("tom", "zoe"),
}
KINDS = tuple(kind for kind in ContactPointKind if kind is not ContactPointKind.HOUSEHOLD_PHONE)


@dataclass
class Marked:
    """The district and its ids, as numbers, by kind of node and name: `ids["person"]["mia"]`."""

    builder: DistrictBuilder
    ids: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def code(self) -> str:
        return self.builder.district.code

    def mark(self, owner: str, what: str) -> str:
        return f"{self.code}:{owner}:{what}"

    def keep(self, kind: str, name: str, number: int) -> int:
        self.ids.setdefault(kind, {})[name] = number
        return number

    def person(self, name: str) -> int:
        return self.ids["person"][name]


async def marked_district(conn: Connection, host: PluginHost, code: str) -> Marked:
    """Insert the district, with a row in every table that reads show."""
    marked = Marked(await DistrictBuilder.create(conn, host, code))
    await _schools(marked)
    for name in (*STUDENTS, *CONTACTS):
        await _person(marked, name)
    await _ties(marked)
    await _homes(marked)
    await _stops(marked)
    await _filters(marked)
    await _run(marked)
    await _plan(marked)
    await _history(marked)
    return marked


async def _schools(marked: Marked) -> None:
    for name, portal in (("elm", True), ("oak", False)):
        number = await marked.builder.school(marked.mark(name, "name"), portal=portal)
        marked.keep("school", name, number)


async def _person(marked: Marked, name: str) -> None:
    builder = marked.builder
    number = await builder.insert(
        "person", "person_id", source_id=name, first_name=marked.mark(name, "first_name"),
        last_name=marked.mark(name, "last_name"),
    )  # fmt: skip
    marked.keep("person", name, number)
    for kind in KINDS:
        value = marked.mark(name, kind.lower())
        await builder.insert("contact_point", person_id=number, kind=kind, value=value)
        await builder.prefer(number, kind, on=("EMERGENCY",), chosen=("GENERAL",))


async def _ties(marked: Marked) -> None:
    builder, person, school = marked.builder, marked.person, marked.ids["school"]
    for name in STUDENTS:
        await builder.enroll(person(name), school["elm" if name in ("sam", "ann") else "oak"])
    await builder.enroll(person("sam"), school["oak"], dates=ENDED)
    await builder.assign(person("tom"), school["elm"], marked.mark("tom", "title"))
    await builder.assign(person("mia"), None, marked.mark("mia", "title"), ENDED)
    for student, contact in (("sam", "mia"), ("kim", "mia"), ("sam", "dan"), ("sam", "gran"), ("kim", "ann"),
                             ("sam", "lee"), ("pat", "mia"), ("zoe", "tom")):  # fmt: skip
        await builder.relate(person(student), person(contact), kind=marked.mark(contact, "kind"))
    for student, contact in (("sam", "lee"), ("pat", "mia")):
        await builder.relate(person(student), person(contact), messenger=False, no_contact=True)
    await builder.relate(person("rob"), person("mia"), dates=ENDED)


async def _homes(marked: Marked) -> None:
    for name, members in HOUSEHOLDS.items():
        number = await marked.builder.household(
            *map(marked.person, members), name=marked.mark(name, "name"), phone=marked.mark(name, "phone")
        )
        marked.keep("household", name, number)
        await marked.builder.prefer_household(number, on=("EMERGENCY",), chosen=("GENERAL",))
    await marked.builder.join(marked.ids["household"]["farm"], marked.person("mia"), ENDED)


async def _stops(marked: Marked) -> None:
    for owner in (*STUDENTS, *CONTACTS, *HOUSEHOLDS):
        address = marked.mark(owner, "phone" if owner in HOUSEHOLDS else "cell_phone")
        number = await marked.builder.insert(
            "opt_out", "opt_out_id", address=address, method=Method.TEXT, source="VENDOR",
            evidence=marked.mark(owner, "evidence"), reasons=marked.builder.bits.mask(["GENERAL"]),
        )  # fmt: skip
        marked.keep("optout", owner, number)
    await marked.builder.conn.execute(
        "update opt_out set lifted_at = now() where district_id = $1", marked.builder.id
    )


async def _filters(marked: Marked) -> None:
    for kind in ("STUDENT", "CENSUS"):
        number = await marked.builder.insert(
            "saved_filter", "saved_filter_id", name=marked.mark(kind.lower(), "name"), kind=kind,
            criteria='{"field": "activeEnrollment", "is": true}',
        )  # fmt: skip
        marked.keep("filter", kind, number)


async def _run(marked: Marked) -> None:
    builder = marked.builder
    number = await builder.insert(
        "batch_run", "batch_run_id", mode="STUDENTS", scope="{}", status="DONE", population=6, total=6, done=6,
        requested_by=marked.mark("boss", "source_id"), errors=[marked.mark("run", "errors")],
    )  # fmt: skip
    marked.keep("run", "done", number)
    await builder.conn.execute(
        "update batch_run set finished_at = now() where district_id = $1", marked.builder.id
    )
    await builder.insert(
        "batch_cell", batch_run_id=number, contact_point="EMAIL", reason="GENERAL", turn_on=True, updated=4
    )
    await builder.insert(
        "batch_rule",
        batch_run_id=number,
        rule_no=1,
        plugin="on_record",
        rule="on_record",
        code="NO_VALUE",
        because="None.",
        remedy="Add it.",
    )
    for block, (household, subject, kind) in enumerate((
        (False, marked.person("gran"), "EMAIL"), (True, marked.ids["household"]["home"], "HOUSEHOLD_PHONE"),
    ), start=1):  # fmt: skip
        await builder.insert(
            "batch_exclusion_block", batch_run_id=number, block=block, rule_no=1, household=household,
            contact_point=kind,
            reasons=builder.bits.mask(["GENERAL"]), subject_ids=[subject],
        )  # fmt: skip


async def _plan(marked: Marked) -> None:
    """A plan that waits to be applied, the revert of the finished run, a plan that was applied, one in the making."""
    builder = marked.builder
    values = {"mode": "STUDENTS", "scope": "{}", "requested_by": "ADMIN"}
    planned = await builder.insert(
        "batch_run", "batch_run_id", **values, status="PLANNED", dry_run=True, plan_only=True,
        planned_at=datetime.now(UTC),
    )  # fmt: skip
    marked.keep("run", "planned", planned)
    for table in ("batch_cell", "batch_forecast"):
        await builder.insert(
            table, batch_run_id=planned, contact_point="EMAIL", reason="GENERAL", turn_on=True
        )
    subjects = ((False, marked.person("gran"), "EMAIL"),
                (True, marked.ids["household"]["home"], "HOUSEHOLD_PHONE"))  # fmt: skip
    for place, (household, subject, kind) in enumerate(subjects, start=1):
        await builder.insert(
            "batch_sample", batch_run_id=planned, place=place, household=household, subject_id=subject,
            contact_point=kind, turned_on=builder.bits.mask(["GENERAL"]), turned_off=0,
        )  # fmt: skip
    marked.keep(
        "run", "undone",
        await builder.insert("batch_run", "batch_run_id", **values, status="DONE"),
    )  # fmt: skip
    marked.keep(
        "run", "revert",
        await builder.insert(
            "batch_run", "batch_run_id", **values, status="DONE", reverts_run_id=marked.ids["run"]["undone"],
            left_population=1, plan_outdated=False,
        ),
    )  # fmt: skip
    await builder.insert(
        "batch_run", **values, status="PLANNING", dry_run=True, plan_only=True, planning_step="ASKING_RULES",
        planning_done=1, planning_total=2,
        lease_owner="another", lease_expires_at=datetime.now(UTC) + timedelta(hours=1),
    )  # fmt: skip


async def _history(marked: Marked) -> None:
    builder = marked.builder
    for revision, name in enumerate((*STUDENTS, *CONTACTS), start=1):
        await builder.insert(
            "change_set", revision=revision, source="BATCH", actor=f"STAFF:{marked.mark('boss', 'source_id')}",
            batch_run_id=marked.ids["run"]["done"],
        )  # fmt: skip
        await builder.insert(
            "change", contact_point="EMAIL", method="EMAIL",
            **one_change(
                revision, "PERSON", marked.person(name), "PREFERENCES",
                turned_on=builder.bits.mask(["GENERAL"]), turned_off=builder.bits.mask(["STAFF"]),
            ),
        )  # fmt: skip
    for revision, number in enumerate(marked.ids["household"].values(), start=revision + 1):  # noqa: B020
        await builder.insert(
            "change_set", revision=revision, source="ADMIN", actor=f"ADMIN:{marked.mark('boss', 'source_id')}",
        )  # fmt: skip
        await builder.insert(
            "change", contact_point="HOUSEHOLD_PHONE", method="VOICE",
            **one_change(
                revision, "HOUSEHOLD", number, "PREFERENCES",
                turned_on=builder.bits.mask(["GENERAL"]), turned_off=builder.bits.mask(["STAFF"]),
            ),
        )  # fmt: skip
    await builder.conn.execute(
        "update district set revision = $2 where district_id = $1", builder.id, revision
    )
