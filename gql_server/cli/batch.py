"""What the commands show of a batch run: its progress while it runs, and its result as tables (D20)."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import groupby

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from gql_server.api.client import GraphQLClient, Json
from gql_server.cli import common
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
RUN_FIELDS = """
fragment run on BatchRun {
  id mode status dryRun keepChosen requestedBy requestedAt plannedAt finishedAt population errors
  progress { ...progress } queuedBehind { id } reverts { id } revertedBy { id progress { ...progress } }
  restored leftAlone difference { leftPopulation choseSince excludedSince outdated }
  results {
    contactPoint reason set updated unchanged overwroteChosen keptChosen excluded leftAlone peopleAffected
  }
}
fragment progress on BatchProgress { done total planning { step done total } }"""
_SUBMIT = f"""
mutation submit($input: BatchSetPreferencesInput!) {{
  batchSetPreferences(input: $input) {{ run {{ ...run }} userErrors {{ code message path }} }}
}}{RUN_FIELDS}"""
_RUN = f"query run($id: ID!) {{ batchRun(id: $id) {{ ...run }} }}{RUN_FIELDS}"


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
    run: Json | None = (await client.execute(_RUN, {"id": run_id}))["batchRun"]
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
    """Show a run's progress on a terminal until it has ended; return it as it is then.

    A server that does not answer for a minute is waited for: the run goes on when it is back. Raises Unavailable
    after that.
    """
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[counts]}"), TimeElapsedColumn(),
        console=common.stderr, transient=True, disable=not common.stderr.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("", total=None, counts="")
        _show_progress(progress, task, run)
        async for state in _states(client, run):
            run = state
            _show_progress(progress, task, run)
    return run


async def _states(client: GraphQLClient, run: Json) -> AsyncIterator[Json]:
    loop = asyncio.get_running_loop()
    answered = loop.time()
    while run["status"] not in ENDED:
        await asyncio.sleep(_POLL_SECONDS)
        try:
            run = await find_run(client, run["id"])
        except Unavailable:
            if loop.time() - answered > _PATIENCE_SECONDS:
                raise
            continue
        answered = loop.time()
        yield run


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


def show(run: Json, changed: str) -> None:
    """Print a run's result: how many people, the matrix, and what else there is to know of its cells."""
    for error in run["errors"]:
        common.complain(error)
    common.say(f"\n{run['mode']}, {run['population']:,} people selected. {changed}:\n")
    common.stdout.print(matrix(run["results"], common.stdout.width))
    reached = [
        f"{cell['reason']} {cell['peopleAffected']:,}"
        for cell in run["results"]
        if cell["contactPoint"] == ContactPointKind.HOUSEHOLD_PHONE and cell["peopleAffected"] is not None
    ]
    if reached:
        common.say(
            "\nThe household phone belongs to everyone who lives there. People in the households changed:"
            f" {', '.join(reached)}."
        )


def notes(run: Json) -> Iterable[str]:
    """Yield a line for each thing that a run's cells say beside the numbers updated, summed over them."""
    told = {
        "unchanged": "were already as asked",
        "overwroteChosen": "of those updated had been people's own choice",
        "keptChosen": "were left alone, being people's own choice",
        "excluded": "were kept out by a rule",
    }
    for key, words in told.items():
        count = sum(cell[key] or 0 for cell in run["results"])
        if count:
            yield f"{count:,} {words}."
    for key, words in {
        "restored": "were restored",
        "leftAlone": "were left as they are: somebody has changed them since",
    }.items():
        if run[key] is not None:
            yield f"{run[key]:,} {words}."
    difference = run["difference"] or {}
    for key, words in {
        "leftPopulation": "people or households of the plan are no longer selected and were skipped",
        "choseSince": "preferences were chosen by people since the plan and stay so",
        "excludedSince": "preferences are kept out by a rule only since the plan",
    }.items():
        if difference.get(key):
            yield f"{difference[key]:,} {words}."
    if difference.get("outdated"):
        yield "The plan was older than the server's limit when it was applied."


async def run_sample_batch(url: str, token: str) -> None:
    """Turn the household phone on for student contacts; print the matrix. Raises Rejected, Unavailable."""
    cells = [
        {"contactPoint": ContactPointKind.HOUSEHOLD_PHONE, "reason": reason, "set": "ON"}
        for reason in _REASONS
    ]
    async with GraphQLClient(f"{url}/graphql", token) as client:
        run = await follow(client, await submit(client, {"mode": "STUDENT_CONTACTS", "cells": cells}))
    show(run, "Preferences updated")
    if run["status"] != "DONE":
        raise Unavailable(f"The run ended as {run['status']}.")


def matrix(results: list[Json], width: int = 120) -> Table:
    """Return the table of a result: contact points by reasons, each cell the number updated or No Change.

    In a terminal of fewer than 110 columns names are broken between their words, so that 80 columns hold it.
    """
    rows = [(kind, list(cells)) for kind, cells in groupby(results, key=lambda cell: cell["contactPoint"])]
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    narrow = width < 110
    table.add_column("", width=len("Secondary") if narrow else None)
    for cell in rows[0][1] if rows else []:
        words = cell["reason"].split("_")
        widest = max(len("Change"), *map(len, words)) if narrow else None
        table.add_column(escape(" ".join(words)), justify="right", width=widest)
    for kind, cells in rows:
        name = ContactPointKind(kind).words.capitalize()
        table.add_row(name, *("No Change" if c["updated"] is None else f"{c['updated']:,}" for c in cells))
    return table
