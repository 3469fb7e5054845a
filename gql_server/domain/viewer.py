"""The viewer: the district, role and person of a token."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from gql_server.errors import Forbidden


class Role(StrEnum):
    """What kind of user a viewer is. It decides what they may read and write."""

    ADMIN = "ADMIN"
    STAFF = "STAFF"
    GUARDIAN = "GUARDIAN"
    STUDENT = "STUDENT"
    VENDOR = "VENDOR"


@dataclass(frozen=True, slots=True)
class District:
    """A district of the server. `time_zone`: an IANA name such as America/Chicago."""

    district_id: int
    code: str
    time_zone: str

    def today(self) -> date:
        """Return the current day in the district's time zone (D6)."""
        return datetime.now(ZoneInfo(self.time_zone)).date()


@dataclass(frozen=True, slots=True)
class Viewer:
    """The bearer of a token. `person_source_id`: the person's id in the district's own system, or None."""

    district: District
    role: Role
    person_source_id: str | None = None

    @property
    def actor(self) -> str:
        """The actor that changes are logged with (D28): the role, and the person if the token names one."""
        return f"{self.role}:{self.person_source_id}" if self.person_source_id else str(self.role)


def require_admin(viewer: Viewer, action: str) -> None:
    """Raise Forbidden to all but administrators. `action` completes the sentence "Only an administrator may ..."."""
    if viewer.role is not Role.ADMIN:
        raise Forbidden(f"Only an administrator may {action}.")
