"""Maps the words of Ed-Fi descriptors to grades, contact points and guardians.

A descriptor is `uri://…/KindDescriptor#Words`.
"""

from gql_server.domain.channels import ContactPointKind

_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth",
)  # fmt: skip
_GRADES = {f"{ordinal} grade": f"{number:02}" for number, ordinal in enumerate(_ORDINALS, start=1)} | {
    "kindergarten": "KG",
    "kg": "KG",
    "k": "KG",
    "preschool/prekindergarten": "PK",
    "prekindergarten": "PK",
    "preschool": "PK",
    "pk": "PK",
}
_PHONES = {
    "home": ContactPointKind.HOME_PHONE,
    "mobile": ContactPointKind.CELL_PHONE,
    "work": ContactPointKind.WORK_PHONE,
}
_GUARDIANS = frozenset(
    {"mother", "father", "parent", "guardian", "legalguardian", "courtappointedguardian", "fosterparent"}
)
_MAX_GRADE = 12


def words(descriptor: str) -> str:
    """Return the part of a descriptor after `#`, or the whole descriptor if it has no `#`."""
    return descriptor.rpartition("#")[2].strip()


def grade(descriptor: str) -> str:
    """Return PK, KG or 01 to 12, or the descriptor's words for any other level."""
    name = words(descriptor)
    if name.isascii() and name.isdecimal() and 1 <= int(name) <= _MAX_GRADE:
        return f"{int(name):02}"
    return _GRADES.get(name.lower(), name)


def phone_kind(descriptor: str) -> ContactPointKind | None:
    """Return the contact point of a telephone type, or None for a type that is not imported."""
    return _PHONES.get(words(descriptor).lower())


def is_guardian(relation: str) -> bool:
    """Return whether a relation is one of a guardian: a parent but no step-parent, or any kind of guardian."""
    return "".join(letter for letter in relation.lower() if letter.isalpha()) in _GUARDIANS
