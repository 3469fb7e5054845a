"""Which days are taken from outside: one rule for imports, arguments and whatever else brings days.

Other systems write an open start as 0001-01-01 and an open end as 9999-12-31. Here open is None: the driver
would make those two days infinite ones. Every other day is from FIRST_DAY to LAST_DAY, as `0007_days.sql` also says.
"""

import re
from datetime import date

FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2199, 12, 31)
SCHOOL_YEARS = range(FIRST_DAY.year, LAST_DAY.year + 2)
"""School years by the year that they end in."""
OPEN_START, OPEN_END = date.min, date.max

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def parse_day(text: str) -> date:
    """Return the day that a text such as 2026-09-01 names, in range or not. Raises ValueError, in words."""
    if _DAY.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is not a day. Write one as 2026-09-01.")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is no day of any calendar.") from None


def start_or_end_day(day: date) -> date:
    """Return a day that may yet be a start or an end, open ones too. Raises ValueError, in words."""
    return day if day in (OPEN_START, OPEN_END) else _within(day)


def start_day(day: date) -> date | None:
    """Return the first day of something, None where it is open. Raises ValueError, in words."""
    return None if day == OPEN_START else _within(day)


def end_day(day: date) -> date | None:
    """Return the last day of something, None where it is open. Raises ValueError, in words."""
    return None if day == OPEN_END else _within(day)


def _within(day: date) -> date:
    if FIRST_DAY <= day <= LAST_DAY:
        return day
    raise ValueError(
        f"{day} is out of range. A day is from {FIRST_DAY} to {LAST_DAY};"
        f" an open start is left out or {OPEN_START}, an open end left out or {OPEN_END}."
    )
