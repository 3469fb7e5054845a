"""The days that imports and arguments may contain.

Other systems write an open start as 0001-01-01 and an open end as 9999-12-31. Both are None here, because the driver
turns these two days into -infinity and infinity. Every other day must be from FIRST_DAY to LAST_DAY; the constraints
of `0007_days.sql` say the same.
"""

import re
from datetime import date

FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2199, 12, 31)
SCHOOL_YEARS = range(FIRST_DAY.year, LAST_DAY.year + 2)
"""The valid school years. A school year is named by the year in which it ends."""
OPEN_START, OPEN_END = date.min, date.max

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def parse_day(text: str) -> date:
    """Return the day of a text such as 2026-09-01, in range or not. Raises ValueError with a message for people."""
    if _DAY.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is not a day. Write one as 2026-09-01.")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is not a day of the calendar.") from None


def start_or_end_day(day: date) -> date:
    """Return a day that may be a start or an end, open or not. Raises ValueError with a message for people."""
    return day if day in (OPEN_START, OPEN_END) else _within(day)


def start_day(day: date) -> date | None:
    """Return a first day, or None if the start is open. Raises ValueError with a message for people."""
    return None if day == OPEN_START else _within(day)


def end_day(day: date) -> date | None:
    """Return a last day, or None if the end is open. Raises ValueError with a message for people."""
    return None if day == OPEN_END else _within(day)


def _within(day: date) -> date:
    if FIRST_DAY <= day <= LAST_DAY:
        return day
    raise ValueError(
        f"{day} is out of range. A day is from {FIRST_DAY} to {LAST_DAY};"
        f" an open start is left out or {OPEN_START}, an open end left out or {OPEN_END}."
    )
