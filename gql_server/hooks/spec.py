"""The hooks that a plug-in may implement: their signatures and what they mean.

A hook that returns something is a plain function that returns frozen values and does no I/O. What needs I/O is a
callable inside the value, which the server awaits with a time limit. The last two hooks return nothing and may be
coroutine functions. The server calls all hooks in threads, with a time limit.
"""

from collections.abc import Iterable

import pluggy

from gql_server.hooks.types import (
    BatchMode,
    BatchScope,
    ContactReason,
    FilterField,
    Population,
    PreferenceChanges,
    Rule,
    RuleRequest,
    RunSummary,
)

PROJECT = "gql_server"
hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def contact_reasons() -> Iterable[ContactReason]:
    """Return the contact reasons that the plug-in adds (D3). The server refuses a code that two plug-ins give."""
    return ()


@hookspec
def batch_modes() -> Iterable[BatchMode]:
    """Return the batch modes that the plug-in adds (D11). The server refuses a code that two plug-ins give."""
    return ()


@hookspec(firstresult=True)
def select_population(mode: str, scope: BatchScope) -> Population | None:
    """Return the people whom a mode of this plug-in selects in a scope (D12), or None for another plug-in's mode."""


@hookspec
def eligibility_rules(request: RuleRequest) -> Iterable[Rule]:
    """Return the rules that the plug-in has for a request (D10). One denial by any rule is enough."""
    return ()


@hookspec
def filter_fields() -> Iterable[FilterField]:
    """Return the fields that the plug-in adds to saved filters. The server refuses a name that two plug-ins give."""
    return ()


@hookspec
def run_finished(run: RunSummary) -> None:
    """Receive the summary of a batch run that ended, after its last commit. An error is logged and changes nothing.

    It may be called twice for one run: when it is DONE, and later, when another run has undone it, as REVERTED.
    """


@hookspec
def preferences_changed(changes: PreferenceChanges) -> None:
    """Receive the summary of a change set of preferences, after its commit. An error is logged and changes nothing."""
