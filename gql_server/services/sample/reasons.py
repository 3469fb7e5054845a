"""The reasons of the sample's preferences, as masks of the district's bits (D3, D4)."""

from dataclasses import dataclass

from gql_server.domain.reasons import ReasonBits

_PHONE = (
    "EMERGENCY",
    "EMERGENCY ATTENDANCE",
    "EMERGENCY ATTENDANCE BEHAVIOR",
    "EMERGENCY PRIORITY",
    "EMERGENCY ATTENDANCE BEHAVIOR PRIORITY FOOD_SERVICE",
    "PRIORITY",
    "ATTENDANCE GENERAL",
)
_EMAIL = (
    "GENERAL TEACHER",
    "EMERGENCY GENERAL",
    "EMERGENCY ATTENDANCE BEHAVIOR GENERAL FOOD_SERVICE PRIORITY TEACHER",
    "ATTENDANCE TEACHER",
    "FOOD_SERVICE",
)
_STAFF = ("EMERGENCY STAFF", "STAFF PRIORITY", "EMERGENCY STAFF GENERAL PRIORITY", "EMERGENCY")
_TEXT = ("EMERGENCY", "ATTENDANCE", "EMERGENCY ATTENDANCE PRIORITY")
_CHOSEN = ("EMERGENCY", "ATTENDANCE BEHAVIOR", "GENERAL", "FOOD_SERVICE PRIORITY", "EMERGENCY ATTENDANCE")
_OPT_OUT = ("GENERAL", "FOOD_SERVICE GENERAL", "ATTENDANCE")


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks to choose from. STAFF is on only for staff, and TEACHER for no phone (D3, D15)."""

    phone: tuple[int, ...]
    email: tuple[int, ...]
    staff: tuple[int, ...]
    text: tuple[int, ...]
    chosen: tuple[int, ...]
    opt_out: tuple[int, ...]

    @classmethod
    def of(cls, bits: ReasonBits) -> "Masks":
        """Return the masks in a district's bits, without reasons that the district does not have."""

        def masks(choices: tuple[str, ...]) -> tuple[int, ...]:
            return tuple(bits.mask(code for code in codes.split() if code in bits) for codes in choices)

        return cls(*map(masks, (_PHONE, _EMAIL, _STAFF, _TEXT, _CHOSEN, _OPT_OUT)))
