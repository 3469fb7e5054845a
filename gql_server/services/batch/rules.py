"""Asks the plug-ins' rules. Fails closed: a rule that errs, stalls or leaves out an answer stops all."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gql_server.db.database_errors import is_transient, sqlstate
from gql_server.domain.batch import ChannelMasks, Setting
from gql_server.domain.reasons import ALL_REASONS, ReasonBits
from gql_server.errors import PluginError, Unavailable
from gql_server.hooks import Candidate, Deny, Rule, Verdict
from gql_server.hooks.host import OwnedRule
from gql_server.hooks.threads import PluginRaised
from gql_server.services.batch.check_thread import CheckThread, where_in_sql

CHECK_SECONDS = 30.0
"""How long a check may take over one chunk of candidates, or beside one write."""
CHECK_CHUNK = 1_000
"""How many candidates a check is given at most."""


@dataclass(frozen=True, slots=True)
class RuleLimits:
    """How long, in seconds, the plug-ins of a plan may take: a check over one chunk, their SQL over one statement."""

    check_seconds: float = CHECK_SECONDS
    statement_seconds: float = 60.0


def spoken_of(rule: Rule, masks: ChannelMasks) -> int:
    """Return the bits of one contact point that a rule speaks of, by its settings."""
    on = masks.on_mask if Setting.ON in rule.settings else 0
    off = masks.off_mask if Setting.OFF in rule.settings else 0
    return on | off


async def ask_check(
    owned: OwnedRule,
    candidates: Sequence[Candidate],
    thread: CheckThread,
    seconds: float = CHECK_SECONDS,
) -> Sequence[Verdict | Deny]:
    """Return a check's verdicts, one for each candidate, in their order; it may take `seconds`.

    Raises PluginError, whose words hold none of the exception's own: they may be about a person. Raises what may
    pass, such as a lost connection, as it is: the plug-in is not to blame.
    """
    check, name = owned.rule.check, f"rule {owned.rule.name!r}"
    assert check is not None
    try:
        async with asyncio.timeout(seconds):
            verdicts = await thread.ask(check, candidates)
    except TimeoutError as timeout:
        raise PluginError(owned.plugin, f"{name} took longer than {seconds:g} s.") from timeout
    except PluginRaised as failed:
        error = failed.error
        if is_transient(error) and (sqlstate(error) or isinstance(error, Unavailable)):
            raise error from error.__cause__
        raise PluginError(
            owned.plugin, f"{name} failed: {type(error).__name__}{where_in_sql(error)}."
        ) from error
    if not isinstance(verdicts, Sequence) or len(verdicts) != len(candidates):
        raise PluginError(owned.plugin, f"{name} must give one verdict for each candidate, in their order.")
    allow = Verdict.ALLOW
    for verdict in verdicts:
        if verdict is not allow and not isinstance(verdict, Deny):
            raise PluginError(owned.plugin, f"{name} gave {type(verdict).__name__}, not a verdict.")
    return verdicts


def denied_mask(owned: OwnedRule, deny: Deny, bits: ReasonBits) -> int:
    """Return the bits that a check's no is for. Raises PluginError for a reason that the district lacks."""
    if deny.reasons is None:
        return ALL_REASONS
    try:
        return bits.mask(deny.reasons)
    except KeyError as error:
        words = f"rule {owned.rule.name!r} denies a contact reason that there is not."
        raise PluginError(owned.plugin, words) from error
