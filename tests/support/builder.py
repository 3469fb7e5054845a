"""Builds small districts row by row, for tests that look at one rule."""

from datetime import date, timedelta

from gql_server.db.protocols import Connection
from gql_server.domain.channels import ContactPointKind, Method, batch_method
from gql_server.domain.reasons import ReasonBits
from gql_server.domain.viewer import District
from gql_server.hooks.host import PluginHost
from gql_server.services.districts import create_district, reason_bits

YEAR = 2026
PAST, FUTURE = date.today() - timedelta(days=400), date.today() + timedelta(days=400)
ENDED = (PAST, date.today() - timedelta(days=30))
"""The dates of something that is over (D6)."""


class DistrictBuilder:
    """Adds rows to one district. Every method returns the new row's id. `dates` is (start, end), None being open."""

    def __init__(self, conn: Connection, district: District, bits: ReasonBits) -> None:
        self.conn, self.district, self.bits = conn, district, bits
        self.id = district.district_id

    @classmethod
    async def create(
        cls, conn: Connection, host: PluginHost, code: str = "maple", time_zone: str = "UTC"
    ) -> "DistrictBuilder":
        async with conn.transaction():
            district = await create_district(conn, code, code.title(), time_zone, host.reasons)
        return cls(conn, district, await reason_bits(conn, district.district_id))

    async def insert(self, table: str, returning: str | None = None, **columns: object) -> int:
        """Insert a row of this district; return the column asked for."""
        names = ["district_id", *columns]
        values = ", ".join(f"${n}" for n in range(1, len(names) + 1))
        sql = f"insert into {table} ({', '.join(names)}) values ({values}) returning {returning or 'district_id'}"
        return int(await self.conn.fetchval(sql, self.id, *columns.values()))

    async def school(self, name: str = "Maple High", year: int = YEAR, portal: bool = True) -> int:
        school_id = await self.insert(
            "school", "school_id", source_id=name, name=name, portal_contact_information=portal
        )
        await self.insert("calendar", school_id=school_id, school_year=year)
        return school_id

    async def person(self, name: str = "Ada Lane", source_id: str | None = None, **values: str) -> int:
        """Add a person. Keywords are contact points: cell_phone="555-0100"."""
        first, _, last = name.partition(" ")
        person_id = await self.insert(
            "person", "person_id", source_id=source_id, first_name=first, last_name=last or first
        )
        for kind, value in values.items():
            await self.insert(
                "contact_point", person_id=person_id, kind=ContactPointKind(kind.upper()), value=value
            )
        return person_id

    async def enroll(
        self, person_id: int, school_id: int, grade: str = "09", year: int = YEAR,
        dates: tuple[date | None, date | None] = (None, None),
    ) -> int:  # fmt: skip
        return await self.insert(
            "enrollment", "enrollment_id", person_id=person_id, school_id=school_id, school_year=year,
            grade=grade, start_date=dates[0], end_date=dates[1],
        )  # fmt: skip

    async def student(self, school_id: int, name: str = "Sam Lane", grade: str = "09", **values: str) -> int:
        person_id = await self.person(name, **values)
        await self.enroll(person_id, school_id, grade)
        return person_id

    async def relate(
        self, student_id: int, contact_id: int, messenger: bool = True, no_contact: bool = False,
        dates: tuple[date | None, date | None] = (None, None), kind: str = "Mother", guardian: bool = True,
    ) -> int:  # fmt: skip
        return await self.insert(
            "relationship", "relationship_id", student_id=student_id, contact_id=contact_id, kind=kind,
            guardian=guardian, messenger=messenger, no_contact=no_contact, start_date=dates[0], end_date=dates[1],
        )  # fmt: skip

    async def household(self, *members: int, name: str = "Lane", phone: str | None = None) -> int:
        household_id = await self.insert("household", "household_id", name=name, phone=phone)
        for person_id in members:
            await self.join(household_id, person_id)
        return household_id

    async def join(
        self, household_id: int, person_id: int, dates: tuple[date | None, date | None] = (None, None)
    ) -> int:
        return await self.insert(
            "household_member", "household_member_id", household_id=household_id, person_id=person_id,
            start_date=dates[0], end_date=dates[1],
        )  # fmt: skip

    async def assign(
        self, person_id: int, school_id: int | None = None, title: str | None = "Teacher",
        dates: tuple[date | None, date | None] = (None, None),
    ) -> int:  # fmt: skip
        return await self.insert(
            "district_assignment", "district_assignment_id", person_id=person_id, school_id=school_id, title=title,
            start_date=dates[0], end_date=dates[1],
        )  # fmt: skip

    async def prefer(
        self, person_id: int, contact_point: ContactPointKind, on: tuple[str, ...] = (),
        chosen: tuple[str, ...] = (), method: Method | None = None,
    ) -> None:  # fmt: skip
        """Set a person's preferences without logging them."""
        await self.insert(
            "preference", person_id=person_id, contact_point=contact_point,
            method=method or batch_method(contact_point),
            reasons_on=self.bits.mask(on), reasons_chosen=self.bits.mask(chosen),
        )  # fmt: skip

    async def prefer_household(
        self, household_id: int, on: tuple[str, ...] = (), chosen: tuple[str, ...] = (),
        method: Method = Method.VOICE,
    ) -> None:  # fmt: skip
        """Set a household's preferences without logging them."""
        await self.insert(
            "household_preference", household_id=household_id, method=method,
            reasons_on=self.bits.mask(on), reasons_chosen=self.bits.mask(chosen),
        )  # fmt: skip

    async def opt_out(self, address: str, method: Method, reasons: tuple[str, ...] | None = None) -> int:
        return await self.insert(
            "opt_out", "opt_out_id", address=address, method=method, source="VENDOR",
            reasons=None if reasons is None else self.bits.mask(reasons),
        )  # fmt: skip

    async def on(
        self, person_id: int, contact_point: ContactPointKind, method: Method | None = None
    ) -> list[str]:
        """Return the reasons that are on for a person's channel, in the matrix's order."""
        mask = await self.conn.fetchval(
            "select reasons_on from preference where district_id = $1 and person_id = $2"
            " and contact_point = $3 and method = $4",
            self.id, person_id, contact_point, method or batch_method(contact_point),
        )  # fmt: skip
        return self.bits.codes(mask or 0)
