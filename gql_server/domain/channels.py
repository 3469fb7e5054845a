"""Contact points, methods, and channels: a contact point with a method (D1, D2, D14)."""

from enum import StrEnum
from typing import NamedTuple


class ContactPointKind(StrEnum):
    """The kinds of contact points, in the order of the matrix (D1)."""

    HOUSEHOLD_PHONE = "HOUSEHOLD_PHONE"
    HOME_PHONE = "HOME_PHONE"
    WORK_PHONE = "WORK_PHONE"
    CELL_PHONE = "CELL_PHONE"
    EMAIL = "EMAIL"
    SECONDARY_EMAIL = "SECONDARY_EMAIL"

    @property
    def is_phone(self) -> bool:
        return self not in (ContactPointKind.EMAIL, ContactPointKind.SECONDARY_EMAIL)

    @property
    def label(self) -> str:
        """The kind in lower case with spaces, for messages: `cell phone`."""
        return self.value.lower().replace("_", " ")


class Method(StrEnum):
    """How a contact point is used (D2)."""

    VOICE = "VOICE"
    TEXT = "TEXT"
    EMAIL = "EMAIL"


class Channel(NamedTuple):
    """A contact point with a method (D2)."""

    contact_point: ContactPointKind
    method: Method

    def __str__(self) -> str:
        return f"{self.contact_point} by {self.method}"


def methods(kind: ContactPointKind) -> tuple[Method, ...]:
    """Return the methods of a contact point: VOICE and TEXT for a phone, EMAIL for an email address (D2)."""
    return (Method.VOICE, Method.TEXT) if kind.is_phone else (Method.EMAIL,)


def batch_method(kind: ContactPointKind) -> Method:
    """Return the only method that a batch sets for a contact point. It is never TEXT (D14)."""
    return methods(kind)[0]


HOUSEHOLD_CHANNELS = tuple(
    Channel(ContactPointKind.HOUSEHOLD_PHONE, method) for method in methods(ContactPointKind.HOUSEHOLD_PHONE)
)
PERSON_CHANNELS = tuple(
    Channel(kind, method)
    for kind in ContactPointKind
    if kind is not ContactPointKind.HOUSEHOLD_PHONE
    for method in methods(kind)
)
