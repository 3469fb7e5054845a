"""Asks a rule in Python. Fails closed: a check that raises, takes too long or leaves out an answer is a PluginError."""

import asyncio
from collections.abc import Sequence

from gql_server.db.database_errors import is_transient, sqlstate
from gql_server.domain import defaults
from gql_server.domain.reasons import ALL_REASONS, ReasonBits
from gql_server.errors import PluginError, Unavailable
from gql_server.hooks import Candidate, Context, Defer, Deny, Verdict
from gql_server.hooks.host import OwnedRule
from gql_server.hooks.threads import PluginRaised
from gql_server.hooks.validation import verdict_problem
from gql_server.services.rules.check_thread import CheckThread, where_in_sql


async def ask_check(
    owned: OwnedRule,
    candidates: Sequence[Candidate],
    thread: CheckThread,
    seconds: float = defaults.CHECK_SECONDS,
    context: Context = Context.BATCH,
) -> Sequence[Verdict | Deny | Defer]:
    """Return a check's verdicts, one for each candidate, in their order; it may take `seconds`.

    Raises PluginError, also for a `Defer` outside of DELIVERY. Its message does not repeat that of the exception, which
    may be about a person. A transient error, such as a lost connection, is not the plug-in's fault and is raised as it
    is.
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
        if verdict is not allow and (wrong := verdict_problem(verdict, context)):
            raise PluginError(owned.plugin, f"{name} gave {wrong}.")
    return verdicts


def denied_mask(owned: OwnedRule, deny: Deny, bits: ReasonBits) -> int:
    """Return the bits of the reasons that a check denies. Raises PluginError for a reason that nobody knows."""
    if deny.reasons is None:
        return ALL_REASONS
    try:
        return bits.mask(deny.reasons)
    except KeyError as error:
        problem = f"rule {owned.rule.name!r} denies a contact reason that there is not."
        raise PluginError(owned.plugin, problem) from error


def unknown_denial(plugin: str, rule: str) -> PluginError:
    """Return the error for a rule that denies what is no candidate: it would deny nothing, unnoticed."""
    return PluginError(plugin, f"rule {rule!r} denies what is no candidate.")
