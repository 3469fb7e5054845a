"""The hooks a plug-in may implement. Signatures and words only.

Hooks that answer are plain functions that return frozen values and do no I/O. What needs I/O is a callable inside the
value, awaited by the host with a timeout. The last two, which are told something, may be coroutine functions. All are
called in a thread, with a time limit.
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
    """Return the contact reasons that the plug-in adds (D3). A code that two plug-ins give stops the start."""
    return ()


@hookspec
def batch_modes() -> Iterable[BatchMode]:
    """Return the batch modes that the plug-in adds (D11). A code that two plug-ins give stops the start."""
    return ()


@hookspec(firstresult=True)
def select_population(mode: str, scope: BatchScope) -> Population | None:
    """Return the people that a mode of this plug-in selects within a scope (D12); None for a mode of another's."""


@hookspec
def eligibility_rules(request: RuleRequest) -> Iterable[Rule]:
    """Return the rules that the plug-in has for a request (D10, D16, D19). Deny wins."""
    return ()


@hookspec
def filter_fields() -> Iterable[FilterField]:
    """Return the fields that the plug-in adds to saved filters. A name that two plug-ins give stops the start."""
    return ()


@hookspec
def run_finished(run: RunSummary) -> None:
    """Hear that a batch run ended, after its last commit. An error here is logged and changes nothing.

    It may be told twice of one run: that it is DONE, and later, when it has been undone, that it is REVERTED.
    """


@hookspec
def preferences_changed(changes: PreferenceChanges) -> None:
    """Hear that preferences changed, after the commit. An error here is logged and changes nothing."""
