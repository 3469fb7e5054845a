"""How long and about how much at once the rules of plug-ins are asked."""

from dataclasses import dataclass

from gql_server.domain import defaults

CHECK_CHUNK = 1_000
"""How many candidates a check is given at most."""


@dataclass(frozen=True, slots=True)
class RuleLimits:
    """How long, in seconds, plug-ins may take: a check over one chunk, and one statement with SQL of rules or a mode.

    Rules that share a statement share its limit; each has the limit to itself where it is asked alone.
    """

    check_seconds: float = defaults.CHECK_SECONDS
    statement_seconds: float = defaults.STATEMENT_SECONDS
