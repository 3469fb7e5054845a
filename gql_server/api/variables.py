"""Limits the size of a request's variables, before they are coerced."""

from collections.abc import Collection
from typing import Any

MAX_VALUES = 12_000
"""Values in one request's variables. Lists and objects are counted as well as their entries. The largest valid input
is a filter's criteria, with 10,000 values in up to 200 conditions."""
MAX_DEPTH = 50
"""Levels of nested lists and objects. A filter's criteria have up to about 20."""


def validate_variables(variables: dict[str, Any]) -> str | None:
    """Return why a request's variables are too large, as a message for its sender; None if they are not."""
    if len(variables) <= MAX_VALUES:
        for value in variables.values():
            if isinstance(value, dict | list):
                break
        else:
            return None
    count, depth, level = 0, 0, [variables]
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return f"The variables are nested too deeply: at most {MAX_DEPTH} levels of lists and objects are allowed."
        inner: list[Any] = []
        for value in level:
            entries: Collection[Any] = value.values() if isinstance(value, dict) else value
            count += len(entries)
            if count > MAX_VALUES:
                return (
                    f"The variables hold more than {MAX_VALUES:,} values, each entry of a list or object counted. Send "
                    "fewer in one request."
                )
            inner.extend(entry for entry in entries if isinstance(entry, dict | list))
        level = inner
    return None
