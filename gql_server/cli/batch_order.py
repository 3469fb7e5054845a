"""`gql-server batch`: what was typed becomes a request, a run to follow, its result, and its exclusions as a file."""

import csv
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TextIO

import orjson
import typer
from rich.progress import Progress

from gql_server.api.client import GraphQLClient, Json
from gql_server.cli import batch, batch_report, common
from gql_server.domain.batch import Setting
from gql_server.domain.channels import ContactPointKind
from gql_server.errors import ConfigurationError, Rejected, UserError

_CELL = re.compile(r"(\w+):(\w+)=(\w+)")
_CHOICES = """query choices {
  schools { id name sourceId } savedFilters { id name kind } batchModes { code filterKind }
}"""
_EXCLUSIONS = """query exclusions($id: ID!, $after: String) {
  batchRun(id: $id) {
    exclusions(first: 5000, after: $after) {
      pageInfo { hasNextPage endCursor }
      edges {
        node {
          person { id sourceId firstName lastName } household { id name }
          contactPoint reason rule code because remedy
        }
      }
    }
  }
}"""
_FILTER = "saved filter"
_COLUMNS = (
    "person_id", "person_source_id", "first_name", "last_name", "household_id", "household_name",
    "contact_point", "reason", "rule", "code", "because", "remedy",
)  # fmt: skip


_TO_ASK_ABOUT = {
    "applyBatch": {"PLANNED"},
    "revertBatch": {"DONE", "FAILED", "CANCELLED"},
}
"""In which states the mutation can be done: in others nobody is asked, and the server says why it cannot."""

Server = Callable[[], GraphQLClient]
"""Makes a client of the server. Called where a loop runs."""


@dataclass(frozen=True, slots=True)
class Order:
    """A batch as typed: names of schools and of the filter are looked up before it is sent."""

    mode: str
    cells: Sequence[Mapping[str, str]]
    schools: Sequence[str] = ()
    grades: Sequence[str] = ()
    school_year: int | None = None
    filter: str | None = None
    dry_run: bool = False
    keep_chosen: bool = False

    @property
    def good(self) -> frozenset[str]:
        """The end state that means success."""
        return frozenset({"PLANNED" if self.dry_run else "DONE"})

    @property
    def sets(self) -> bool:
        """Whether it is to set preferences."""
        return not self.dry_run


@dataclass(frozen=True, slots=True)
class Act:
    """Something to do with a run that exists: `applyBatch`, `cancelBatch`, `revertBatch`; None: only look on."""

    run_id: str
    mutation: str | None

    @property
    def good(self) -> frozenset[str]:
        """The end states that mean success."""
        if self.mutation == "cancelBatch":
            return frozenset({"CANCELLED", "REVERTED"})
        return frozenset({"DONE", "PLANNED"}) if self.mutation else batch.ENDED - {"FAILED"}

    @property
    def sets(self) -> bool:
        """Whether it is to set preferences, or to put them back."""
        return self.mutation in _TO_ASK_ABOUT


def understand(order: Order, acts: Mapping[str | None, str | None]) -> Order | Act:
    """Return the one thing that was asked for: the order if it has a mode, or an act on a run, by mutation.

    Raises ConfigurationError where it is none or several.
    """
    given = [Act(run_id, mutation) for mutation, run_id in acts.items() if run_id is not None]
    if len(given) + bool(order.mode) != 1:
        raise ConfigurationError("Give --mode, or one of --apply, --cancel, --revert and --watch.")
    if not given:
        return order
    if order != Order(mode="", cells=order.cells) or order.cells:
        raise ConfigurationError("What a run sets, and for whom, is settled: leave those options away.")
    return given[0]


def parse_cell(text: str) -> dict[str, str]:
    """Return the input of a cell such as CELL_PHONE:EMERGENCY=ON. Raises Rejected."""
    match = _CELL.fullmatch(text.strip().upper())
    problem = "Write it as CELL_PHONE:EMERGENCY=ON"
    if match and match[1] not in ContactPointKind.__members__:
        problem = f"The contact points are {', '.join(ContactPointKind)}"
    elif match and match[3] not in Setting.__members__:
        problem = f"The settings are {', '.join(Setting)}"
    elif match:
        return {"contactPoint": match[1], "reason": match[2], "set": match[3]}
    raise Rejected([UserError("BAD_CELL", f"{text[:60]!r} is no cell. {problem}.")])


def endpoint(url: str) -> str:
    """Return the address of the GraphQL endpoint of a server. Raises ConfigurationError."""
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"The address {url!r} must begin with http:// or https://.")
    bare = url.rstrip("/")
    return bare if bare.endswith("/graphql") else f"{bare}/graphql"


def carry_out(
    what: Order | Act, *, url: str, token: str, exclusions: Path | None, as_json: bool, ask: bool
) -> bool:
    """Do what was ordered and print what came of it; return whether it came to its good end.

    `ask`: what would set preferences is planned first, and applied, as it was shown, if the answer is yes; what a run
    has set is shown before it is undone.
    Raises Rejected, Unavailable, ConfigurationError; and Exit where the answer is no.
    """
    server = partial(GraphQLClient, endpoint(url), token)
    with _written(exclusions) as file:
        agreed = _decide(server, what) if ask else what
        run = common.run(_work(server, agreed, file, as_json))
    if exclusions is not None and not as_json:
        common.say(f"Who was kept out of what, and why: {exclusions}")
    return run["status"] in what.good


def _decide(server: Server, what: Order | Act) -> Order | Act:
    """Show what a plan would set, or what a run to undo has set; ask, and return what is to be done.

    Raises Exit for a no.
    """
    if not what.sets:
        return what
    ordered = isinstance(what, Order)
    mutation = (None if isinstance(what, Order) else what.mutation) or "applyBatch"
    plan = common.run(_plan(server, what))
    if plan["status"] not in _TO_ASK_ABOUT[mutation] or (plan["reverts"] and mutation == "revertBatch"):
        return Act(plan["id"], None) if ordered else what
    batch_report.show(plan)
    if _agreed(_question(plan, mutation)):
        return Act(plan["id"], mutation)
    if ordered:
        common.run(_cancel(server, plan["id"]))
        common.say(f"{plan['id']}: CANCELLED. Nothing was updated.")
    else:
        common.say(f"Nothing was updated. {plan['id']} is still {plan['status']}.")
    raise typer.Exit(1)


def _question(run: Json, mutation: str) -> str:
    number = f"{batch_report.updated(run):,} preferences"
    if mutation == "revertBatch":  # what somebody has changed since stays
        return f"\nUndo {run['id']}: put back up to {number}?"
    return f"\nUpdate {number}?"


def _agreed(question: str) -> bool:
    """Return the answer to a question; Ctrl+C and the end of input mean no."""
    try:
        return typer.confirm(question)
    except (typer.Abort, KeyboardInterrupt):
        common.say("")
        return False


async def _plan(server: Server, what: Order | Act) -> Json:
    """Return the plan of an order, or the run that an act is to apply or undo."""
    async with server() as client:
        if isinstance(what, Act):
            return await batch.find_run(client, what.run_id)
        return await _followed(client, replace(what, dry_run=True))


async def _cancel(server: Server, run_id: str) -> None:
    async with server() as client:
        await batch.act(client, "cancelBatch", run_id)


async def _work(server: Server, what: Order | Act, file: TextIO | None, as_json: bool) -> Json:
    async with server() as client:
        run = await _followed(client, what)
        _report(run, as_json)
        if file is not None:
            await _write_exclusions(client, run, file)
        return run


async def _followed(client: GraphQLClient, what: Order | Act) -> Json:
    """Do what was ordered and return the run when it has ended or is PLANNED."""
    run = await _begin(client, what)
    try:
        return await batch.follow(client, run)
    except BaseException:  # Ctrl+C, or a server that has gone for good
        _say_goodbye(run["id"])
        raise


async def _begin(client: GraphQLClient, what: Order | Act) -> Json:
    if isinstance(what, Order):
        return await batch.submit(client, await _request(client, what))
    if what.mutation is None:
        return await batch.find_run(client, what.run_id)
    return await batch.act(client, what.mutation, what.run_id)


async def _request(client: GraphQLClient, order: Order) -> Json:
    scope: Json = {}
    if order.schools or order.filter:
        choices = await client.execute(_CHOICES)
        if order.schools:
            scope["schoolIds"] = [_chosen("school", name, choices["schools"]) for name in order.schools]
        if order.filter:
            kinds = {mode["filterKind"] for mode in choices["batchModes"] if mode["code"] == order.mode}
            filters = choices["savedFilters"]
            fitting = [each for each in filters if each["kind"] in kinds or each["id"] == order.filter]
            scope["filterId"] = _chosen(_FILTER, order.filter, fitting)
    if order.grades:
        scope["grades"] = list(order.grades)
    if order.school_year is not None:
        scope["schoolYear"] = order.school_year
    request: Json = {"mode": order.mode, "scope": scope, "cells": list(order.cells)}
    if order.dry_run:
        request["dryRun"] = True
    return {**request, "keepChosen": order.keep_chosen}


def _chosen(what: str, wanted: str, choices: Iterable[Json]) -> str:
    """Return the id of the one choice that has this id, number in the district's system, or name. Raises Rejected."""
    there = list(choices)
    for fits in (
        lambda each: wanted in (each["id"], each.get("sourceId")),
        lambda each: each["name"].casefold() == wanted.casefold(),
    ):
        found = [str(each["id"]) for each in there if fits(each)]
        if len(found) == 1:
            return found[0]
        if found:
            words = f"More than one {what} is named {wanted!r}: {', '.join(found)}. Give the id."
            raise Rejected([UserError("AMBIGUOUS", words)])
    names = ", ".join(repr(each["name"]) for each in there[:10]) or "none"
    more = " and more" if len(there) > 10 else ""
    words = f"There is no {what} {wanted[:60]!r} to choose. There are {names}{more}."
    if not there and what == _FILTER:
        words += " Make one with the mutation `saveFilter`."
    raise Rejected([UserError("UNKNOWN", words)])


def _report(run: Json, as_json: bool) -> None:
    if as_json:
        for error in run["errors"]:
            common.complain(error)
        sys.stdout.write(f"{orjson.dumps(run, option=orjson.OPT_INDENT_2).decode()}\n")
        return
    status = run["status"]
    batch_report.show(run)
    common.say(f"\n{run['id']}: {status}")
    if status == "PLANNED":
        common.say(f"Nothing is written yet. Apply it with: gql-server batch --apply {run['id']}")
    elif status == "DONE" and not run["reverts"]:
        common.say(f"Undo it with: gql-server batch --revert {run['id']}")


def _say_goodbye(run_id: str) -> None:
    common.stderr.print(
        f"\nThe run {run_id} goes on without this command. Cancel it with: gql-server batch --cancel {run_id}\n"
        f"Look at it again with: gql-server batch --watch {run_id}",
        markup=False, soft_wrap=True,
    )  # fmt: skip


@contextmanager
def _written(path: Path | None) -> Iterator[TextIO | None]:
    """Give a file that takes its name when it is whole. Raises ConfigurationError where none can be made there."""
    if path is None:
        yield None
        return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ConfigurationError(f"Cannot write {path}: {error.strerror}.") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


async def _write_exclusions(client: GraphQLClient, run: Json, file: TextIO) -> None:
    """Write all exclusions of a run as CSV, a line each."""
    rows = csv.writer(file)
    rows.writerow(_COLUMNS)
    total = sum(rule["excluded"] for rule in run["excludedByRule"])
    with Progress(console=common.stderr, transient=True, disable=not common.stderr.is_terminal) as progress:
        task = progress.add_task("Exclusions", total=total or None)
        after: str | None = None
        while True:
            answer = await client.execute(_EXCLUSIONS, {"id": run["id"], "after": after})
            page = answer["batchRun"]["exclusions"]
            for edge in page["edges"]:
                rows.writerow(_row(edge["node"]))
            progress.advance(task, len(page["edges"]))
            if not page["pageInfo"]["hasNextPage"]:
                return
            after = page["pageInfo"]["endCursor"]


def _row(exclusion: Json) -> list[str | None]:
    person, household = exclusion["person"] or {}, exclusion["household"] or {}
    return [
        *(person.get(key) for key in ("id", "sourceId", "firstName", "lastName")),
        *(household.get(key) for key in ("id", "name")),
        *(exclusion[key] for key in ("contactPoint", "reason", "rule", "code", "because", "remedy")),
    ]
