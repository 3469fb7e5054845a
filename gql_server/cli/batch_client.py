"""The requests that the commands send to a server about batch runs, and the progress of a run on a terminal."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gql_server.api.client import GraphQLClient, Json
from gql_server.cli import batch_report, common
from gql_server.domain.channels import ContactPointKind
from gql_server.errors import Rejected, Unavailable, UserError

ENDED = frozenset({"PLANNED", "DONE", "FAILED", "CANCELLED", "REVERTED"})
_POLL_SECONDS = 0.3
_MAX_OUTAGE_SECONDS = 60.0
_SAMPLE_REASONS = ("EMERGENCY", "ATTENDANCE", "BEHAVIOR")
_STATUS_WORDS = {
    "QUEUED": "Waiting",
    "PLANNING": "Planning",
    "APPLYING": "Applying",
    "REVERTING": "Reverting",
}
_PLANNING_WORDS = {
    "SELECTING_PEOPLE": "selecting the people",
    "FINDING_CHANNELS": "finding their channels",
    "ASKING_RULES": "asking the rules",
    "WRITING_PLAN": "writing the plan",
}
STATE_FIELDS = """
fragment state on BatchRun {
  id status progress { ...progress } queuedBehind { id } revertedBy { id progress { ...progress } }
}
fragment progress on BatchProgress { done total planning { step done total } }"""
RUN_FIELDS = f"""
fragment run on BatchRun {{
  ...state mode dryRun keepChosen requestedBy requestedAt plannedAt finishedAt population errors reverts {{ id }}
  restored leftAlone difference {{ leftPopulation choseSince excludedSince outdated }}
  results {{ ...cell }} forecast {{ ...cell }} excludedByRule {{ rule code because remedy excluded }}
}}
fragment cell on BatchCellResult {{
  contactPoint reason set updated unchanged overwroteChosen keptChosen excluded leftAlone peopleAffected
}}{STATE_FIELDS}"""
_SUBMIT = f"""
mutation submit($input: BatchSetPreferencesInput!) {{
  batchSetPreferences(input: $input) {{ run {{ ...run }} userErrors {{ code message path }} }}
}}{RUN_FIELDS}"""
_RUN = f"query run($id: ID!) {{ batchRun(id: $id) {{ ...run }} }}{RUN_FIELDS}"
_STATE = f"query state($id: ID!) {{ batchRun(id: $id) {{ ...state }} }}{STATE_FIELDS}"
_LIST_RUNS = "{ batchRuns { edges { node { id status requestedAt } } } }"


async def submit(client: GraphQLClient, request: Mapping[str, object]) -> Json:
    """Submit a batch and return its run without waiting for its end. Raises Rejected, Unavailable."""
    answer = await client.execute(_SUBMIT, {"input": {**request, "waitSeconds": 0}})
    return accepted(answer["batchSetPreferences"])


async def run_action(client: GraphQLClient, mutation: str, run_id: str) -> Json:
    """Send `applyBatch`, `cancelBatch` or `revertBatch` and return the run to follow, without waiting for its end.

    Raises Rejected, Unavailable.
    """
    wait = "" if mutation == "cancelBatch" else ", waitSeconds: 0"
    payload = "{ run { ...run } userErrors { code message path } }"
    document = f"mutation run_action($id: ID!) {{ {mutation}(id: $id{wait}) {payload} }}"
    answer = await client.execute(document + RUN_FIELDS, {"id": run_id})
    return accepted(answer[mutation])


async def find_run(client: GraphQLClient, run_id: str) -> Json:
    """Return a run. Raises Rejected if it does not exist, Unavailable."""
    return await _find(client, _RUN, run_id)


async def _find(client: GraphQLClient, document: str, run_id: str) -> Json:
    run: Json | None = (await client.execute(document, {"id": run_id}))["batchRun"]
    if run is None:
        message = f"There is no run {run_id[:40]}. The query {_LIST_RUNS!r} lists the newest: use such an id."
        raise Rejected([UserError("UNKNOWN_RUN", message)])
    return run


def accepted(payload: Json) -> Json:
    """Return the run of a payload. Raises Rejected if the payload has user errors."""
    if payload["userErrors"]:
        raise Rejected([UserError(error["code"], error["message"]) for error in payload["userErrors"]])
    run: Json = payload["run"]
    return run


async def follow(client: GraphQLClient, run: Json) -> Json:
    """Show a run's progress on a terminal until it has ended or is PLANNED, and return its final state.

    Raises Unavailable if the server does not answer for a minute: a shorter outage does not end the run.
    """
    with Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=None),
        TextColumn("{task.fields[counts]}"), TimeElapsedColumn(),
        console=common.stderr, transient=True, disable=not common.stderr.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("", total=None, counts="")
        _show_progress(progress, task, run)
        async for state in _poll(client, run):
            _show_progress(progress, task, state)
    return await find_run(client, run["id"])


async def _poll(client: GraphQLClient, run: Json) -> AsyncIterator[Json]:
    """Yield the state of a run until it has ended or is PLANNED."""
    loop = asyncio.get_running_loop()
    answered_at = loop.time()
    state = run
    while state["status"] not in ENDED:
        await asyncio.sleep(_POLL_SECONDS)
        try:
            state = await _find(client, _STATE, run["id"])
        except Unavailable:
            if loop.time() - answered_at > _MAX_OUTAGE_SECONDS:
                raise
            continue
        answered_at = loop.time()
        yield state


def _show_progress(progress: Progress, task: TaskID, run: Json) -> None:
    executing = run["revertedBy"] if run["status"] == "REVERTING" and run["revertedBy"] else run
    shown = executing["progress"]
    queued_behind = run["queuedBehind"]
    description = _STATUS_WORDS.get(run["status"], run["status"].capitalize())
    if shown["planning"]:
        shown = shown["planning"]
        description = f"{description}: {_PLANNING_WORDS.get(shown['step'], shown['step'])}"
    done, total = shown["done"], shown["total"]
    progress.update(
        task,
        description=f"{description} behind {queued_behind['id']}" if queued_behind else description,
        total=total or None,
        completed=done,
        counts=f"{done:,} of {total:,}" if total else "",
    )


async def run_sample_batch(url: str, token: str) -> None:
    """Turn the household phone on for student contacts and print the matrix. Raises Rejected, Unavailable."""
    cells = [
        {"contactPoint": ContactPointKind.HOUSEHOLD_PHONE, "reason": reason, "set": "ON"}
        for reason in _SAMPLE_REASONS
    ]
    async with GraphQLClient(f"{url}/graphql", token) as client:
        run = await follow(client, await submit(client, {"mode": "STUDENT_CONTACTS", "cells": cells}))
    batch_report.show(run)
    if run["status"] != "DONE":
        raise Unavailable(f"The run ended as {run['status']}.")
