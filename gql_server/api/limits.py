"""Validation rules of our own: how deep and how wide a document may be. Checked once, when it is admitted."""

from typing import Any

from graphql import specified_rules
from strawberry.extensions.max_aliases import create_validator as alias_rule
from strawberry.extensions.query_depth_limiter import create_validator as depth_rule


def validation_rules(max_depth: int, max_aliases: int) -> list[type[Any]]:
    """Return the specification's rules and ours. Made once: a rule made for each request would defeat every cache."""
    return [*specified_rules, depth_rule(max_depth, None), alias_rule(max_aliases)]
