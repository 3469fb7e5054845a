"""A line in the log for every run that ends and every change set of preferences. No names, no addresses."""

import logging

from gql_server.hooks import PreferenceChanges, RunSummary, hookimpl

_log = logging.getLogger("gql_server.activity")


@hookimpl
def run_finished(run: RunSummary) -> None:
    _log.info("run %s (%s) ended %s: %d people selected", run.run_id, run.mode, run.status, run.population)


@hookimpl
def preferences_changed(changes: PreferenceChanges) -> None:
    _log.info(
        "district %s is at revision %d: %d preferences changed by %s",
        changes.district, changes.revision, changes.preferences, changes.source,
    )  # fmt: skip
