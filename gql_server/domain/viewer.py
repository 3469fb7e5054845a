"""Who asks: the role, district and person that a token stands for."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from gql_server.errors import Forbidden


class Role(StrEnum):
    ADMIN = "ADMIN"
    STAFF = "STAFF"
    GUARDIAN = "GUARDIAN"
    STUDENT = "STUDENT"
    VENDOR = "VENDOR"


@dataclass(frozen=True, slots=True)
class District:
    district_id: int
    code: str
    time_zone: str

    def today(self) -> date:
        """Return the current day in the district's time zone (D6)."""
        return datetime.now(ZoneInfo(self.time_zone)).date()


@dataclass(frozen=True, slots=True)
class Viewer:
    """The bearer of a token. `person_source_id` is the person's id in the district's own system, if they are one."""

    district: District
    role: Role
    person_source_id: str | None = None

    @property
    def actor(self) -> str:
        """Who a change is logged as (D28): the role, and the person where the token names one."""
        return f"{self.role}:{self.person_source_id}" if self.person_source_id else str(self.role)


def require_admin(viewer: Viewer, action: str) -> None:
    """Raise Forbidden to all but administrators. `action` completes the sentence "Only an administrator may ..."."""
    if viewer.role is not Role.ADMIN:
        raise Forbidden(f"Only an administrator may {action}.")
