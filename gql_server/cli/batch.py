"""What the commands ask a server about batch runs, and how they follow one: its progress on a terminal."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gql_server.api.client import GraphQLClient, Json
from gql_server.cli import batch_report, common
from gql_server.domain.channels import ContactPointKind
from gql_server.errors import Rejected, Unavailable, UserError

ENDED = frozenset({"PLANNED", "DONE", "FAILED", "CANCELLED", "REVERTED"})
_POLL_SECONDS = 0.3
_PATIENCE_SECONDS = 60.0
_REASONS = ("EMERGENCY", "ATTENDANCE", "BEHAVIOR")
_WORDS = {
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
  results {{ ...cell }} forecast {{ ...cell }} excludedByRule {{ rule because excluded }}
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


async def submit(client: GraphQLClient, request: Mapping[str, object]) -> Json:
    """Send a batch, without waiting for it; return its run. Raises Rejected, Unavailable."""
    answer = await client.execute(_SUBMIT, {"input": {**request, "waitSeconds": 0}})
    return accepted(answer["batchSetPreferences"])


async def act(client: GraphQLClient, mutation: str, run_id: str) -> Json:
    """Send `applyBatch`, `cancelBatch` or `revertBatch`, without waiting; return the run to follow.

    Raises Rejected, Unavailable.
    """
    wait = "" if mutation == "cancelBatch" else ", waitSeconds: 0"
    payload = "{ run { ...run } userErrors { code message path } }"
    document = f"mutation act($id: ID!) {{ {mutation}(id: $id{wait}) {payload} }}"
    answer = await client.execute(document + RUN_FIELDS, {"id": run_id})
    return accepted(answer[mutation])


async def find_run(client: GraphQLClient, run_id: str) -> Json:
    """Return a run. Raises Rejected where there is none, Unavailable."""
    return await _find(client, _RUN, run_id)


async def _find(client: GraphQLClient, document: str, run_id: str) -> Json:
    run: Json | None = (await client.execute(document, {"id": run_id}))["batchRun"]
    if run is None:
        raise Rejected([UserError("UNKNOWN_RUN", f"There is no run {run_id[:40]}.")])
    return run


def accepted(payload: Json) -> Json:
    """Return the run in a payload. Raises Rejected with its user errors."""
    if payload["userErrors"]:
        raise Rejected([UserError(error["code"], error["message"]) for error in payload["userErrors"]])
    run: Json = payload["run"]
    return run


async def follow(client: GraphQLClient, run: Json) -> Json:
    """Show a run's progress on a terminal until it has ended or is PLANNED; return it as it is then.

    A server that does not answer for a minute is waited for: the run goes on when it is back. Raises Unavailable
    after that.
    """
    with Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=None),
        TextColumn("{task.fields[counts]}"), TimeElapsedColumn(),
        console=common.stderr, transient=True, disable=not common.stderr.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("", total=None, counts="")
        _show_progress(progress, task, run)
        async for state in _states(client, run):
            _show_progress(progress, task, state)
    return await find_run(client, run["id"])


async def _states(client: GraphQLClient, run: Json) -> AsyncIterator[Json]:
    loop = asyncio.get_running_loop()
    answered = loop.time()
    state = run
    while state["status"] not in ENDED:
        await asyncio.sleep(_POLL_SECONDS)
        try:
            state = await _find(client, _STATE, run["id"])
        except Unavailable:
            if loop.time() - answered > _PATIENCE_SECONDS:
                raise
            continue
        answered = loop.time()
        yield state


def _show_progress(progress: Progress, task: TaskID, run: Json) -> None:
    working = run["revertedBy"] if run["status"] == "REVERTING" and run["revertedBy"] else run
    told = working["progress"]
    behind = run["queuedBehind"]
    words = _WORDS.get(run["status"], run["status"].capitalize())
    if told["planning"]:
        told = told["planning"]
        words = f"{words}: {_PLANNING_WORDS.get(told['step'], told['step'])}"
    done, total = told["done"], told["total"]
    progress.update(
        task,
        description=f"{words} behind {behind['id']}" if behind else words,
        total=total or None,
        completed=done,
        counts=f"{done:,} of {total:,}" if total else "",
    )


async def run_sample_batch(url: str, token: str) -> None:
    """Turn the household phone on for student contacts; print the matrix. Raises Rejected, Unavailable."""
    cells = [
        {"contactPoint": ContactPointKind.HOUSEHOLD_PHONE, "reason": reason, "set": "ON"}
        for reason in _REASONS
    ]
    async with GraphQLClient(f"{url}/graphql", token) as client:
        run = await follow(client, await submit(client, {"mode": "STUDENT_CONTACTS", "cells": cells}))
    batch_report.show(run)
    if run["status"] != "DONE":
        raise Unavailable(f"The run ended as {run['status']}.")
