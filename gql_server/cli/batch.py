"""The sample batch of `gql-server demo --once`, sent through HTTP, and its result as a table (D20)."""

import asyncio
from itertools import groupby

from rich.markup import escape
from rich.table import Table

from gql_server.api.client import GraphQLClient, Json
from gql_server.cli import common
from gql_server.domain.channels import ContactPointKind
from gql_server.errors import Rejected, Unavailable, UserError

_REASONS = ("EMERGENCY", "ATTENDANCE", "BEHAVIOR")
_ENDED = frozenset({"DONE", "FAILED", "CANCELLED"})
_POLL_SECONDS = 0.5
_FIELDS = """
fragment fields on BatchRun {
  id status population errors
  results { contactPoint reason set updated unchanged peopleAffected }
}"""
_SUBMIT = f"""
mutation sample($input: BatchSetPreferencesInput!) {{
  batchSetPreferences(input: $input) {{ run {{ ...fields }} userErrors {{ code message }} }}
}}{_FIELDS}"""
_RUN = f"query run($id: ID!) {{ batchRun(id: $id) {{ ...fields }} }}{_FIELDS}"


async def run_sample_batch(url: str, token: str) -> None:
    """Turn the household phone on for student contacts; print the matrix. Raises Rejected, Unavailable."""
    cells = [
        {"contactPoint": ContactPointKind.HOUSEHOLD_PHONE, "reason": reason, "set": "ON"}
        for reason in _REASONS
    ]
    request = {"mode": "STUDENT_CONTACTS", "cells": cells, "waitSeconds": 10}
    async with GraphQLClient(f"{url}/graphql", token) as client:
        payload = (await client.execute(_SUBMIT, {"input": request}))["batchSetPreferences"]
        if payload["userErrors"]:
            raise Rejected([UserError(error["code"], error["message"]) for error in payload["userErrors"]])
        run = payload["run"]
        with common.stderr.status("The batch is running"):
            while run["status"] not in _ENDED:
                await asyncio.sleep(_POLL_SECONDS)
                run = (await client.execute(_RUN, {"id": run["id"]}))["batchRun"]
    _show(run)
    if run["status"] != "DONE":
        raise Unavailable(f"The run ended as {run['status']}.")


def _show(run: Json) -> None:
    for error in run["errors"]:
        common.complain(error)
    common.say(f"\nSTUDENT_CONTACTS, {run['population']:,} people selected. Preferences updated:\n")
    common.stdout.print(matrix(run["results"], common.stdout.width))
    reached = [
        f"{cell['reason']} {cell['peopleAffected']:,}"
        for cell in run["results"]
        if cell["contactPoint"] == ContactPointKind.HOUSEHOLD_PHONE and cell["peopleAffected"] is not None
    ]
    common.say(
        "\nThe household phone belongs to everyone who lives there. People in the households changed:"
        f" {', '.join(reached)}."
    )


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
