"""How much may be in a request's variables: counted before anything is made of them."""

from collections.abc import Collection
from typing import Any

MAX_VALUES = 12_000
"""Values of one request's variables, lists and objects themselves counted. The most that any input takes are criteria:
10,000 values in up to 200 parts."""
MAX_DEPTH = 50
"""Lists and objects in each other. Criteria take about 20."""


def check_variables(variables: dict[str, Any]) -> str | None:
    """Return in words why a request's variables are too much, or None. Stops counting where it is known."""
    count, depth, level = 0, 0, [variables]
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return f"The variables are nested too deeply; at most {MAX_DEPTH} lists and objects may be in each other."
        inner: list[Any] = []
        for value in level:
            parts: Collection[Any] = value.values() if isinstance(value, dict) else value
            count += len(parts)
            if count > MAX_VALUES:
                return (
                    f"The variables hold more than {MAX_VALUES:,} values, each entry of a list or object counted. Send "
                    "fewer in one request."
                )
            inner.extend(part for part in parts if isinstance(part, dict | list))
        level = inner
    return None
