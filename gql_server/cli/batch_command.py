"""`gql-server batch`: sends the request, follows the run, prints its result and writes its exclusions to a file."""

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
from gql_server.cli import batch_client, batch_report, common
from gql_server.domain.batch import Setting
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.ids import IdKind, parse_id
from gql_server.errors import ConfigurationError, Rejected, UserError

_CELL = re.compile(r"(\w+):(\w+)=(\w+)")
_SCHOOLS = "query schools { schools { id name sourceId } }"
_FILTERS = "query filters { savedFilters { id name kind } batchModes { code filterKind } }"
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


_CONFIRMED_STATES = {
    "applyBatch": {"PLANNED"},
    "revertBatch": {"DONE", "FAILED", "CANCELLED"},
}
"""The states in which each mutation is possible. In another state nobody is asked: the server rejects the mutation."""

ClientFactory = Callable[[], GraphQLClient]
"""Makes a client for the server. It must be called in a running event loop."""


@dataclass(frozen=True, slots=True)
class BatchCommandOptions:
    """The options of a new batch. Schools and the filter are names, source ids or ids."""

    mode: str
    cells: Sequence[Mapping[str, str]]
    schools: Sequence[str] = ()
    grades: Sequence[str] = ()
    school_year: int | None = None
    filter: str | None = None
    dry_run: bool = False
    keep_chosen: bool = False

    @property
    def success_states(self) -> frozenset[str]:
        """The final state that means success."""
        return frozenset({"PLANNED" if self.dry_run else "DONE"})

    @property
    def writes(self) -> bool:
        """Whether the command sets preferences."""
        return not self.dry_run


@dataclass(frozen=True, slots=True)
class RunAction:
    """A mutation of an existing run: `applyBatch`, `cancelBatch` or `revertBatch`. None: only follow the run."""

    run_id: str
    mutation: str | None

    @property
    def success_states(self) -> frozenset[str]:
        """The final states that mean success."""
        if self.mutation == "cancelBatch":
            return frozenset({"CANCELLED", "REVERTED"})
        return frozenset({"DONE", "PLANNED"}) if self.mutation else batch_client.ENDED - {"FAILED"}

    @property
    def writes(self) -> bool:
        """Whether the command sets preferences, or sets them back."""
        return self.mutation in _CONFIRMED_STATES


def parse_command(
    options: BatchCommandOptions, actions: Mapping[str | None, str | None]
) -> BatchCommandOptions | RunAction:
    """Return what to do: `options` if they have a mode, or the action whose run is given.

    `actions`: the run of each mutation, None if it was not asked for. Raises ConfigurationError if there is nothing to
    do, or more than one thing.
    """
    given = [RunAction(run_id, mutation) for mutation, run_id in actions.items() if run_id is not None]
    if len(given) + bool(options.mode) != 1:
        raise ConfigurationError("Give --mode, or one of --apply, --cancel, --revert and --watch.")
    if not given:
        return options
    if options != BatchCommandOptions(mode="", cells=options.cells) or options.cells:
        raise ConfigurationError(
            "An existing run already has its cells and its scope. Leave those options out."
        )
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
    raise Rejected([UserError("BAD_CELL", f"{text[:60]!r} is not a cell. {problem}.")])


def endpoint(url: str) -> str:
    """Return the URL of a server's GraphQL endpoint. Raises ConfigurationError."""
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"The address {url!r} must begin with http:// or https://.")
    base = url.rstrip("/")
    return base if base.endswith("/graphql") else f"{base}/graphql"


def execute(
    command: BatchCommandOptions | RunAction,
    *,
    url: str,
    token: str,
    exclusions: Path | None,
    as_json: bool,
    ask: bool,
) -> bool:
    """Execute a command and print the result. Return whether the run reached a state that means success.

    `ask`: show a plan and ask before anything is set, then apply exactly this plan; show what a run has set and ask
    before it is reverted. Raises Rejected, Unavailable, ConfigurationError, and Exit if the answer is no.
    """
    new_client = partial(GraphQLClient, endpoint(url), token)
    with _atomic_file(exclusions) as file:
        confirmed = _confirm(new_client, command) if ask else command
        run = common.run(_execute(new_client, confirmed, file, as_json))
    if exclusions is not None and not as_json:
        common.print_line(f"The exclusions and their reasons are in {exclusions}")
    return run["status"] in command.success_states


def _confirm(
    new_client: ClientFactory, command: BatchCommandOptions | RunAction
) -> BatchCommandOptions | RunAction:
    """Show what a plan would set, or what the run to revert has set; ask, and return the command to execute.

    Raises Exit if the answer is no.
    """
    if not command.writes:
        return command
    is_new = isinstance(command, BatchCommandOptions)
    mutation = (None if isinstance(command, BatchCommandOptions) else command.mutation) or "applyBatch"
    plan = common.run(_plan(new_client, command))
    if plan["status"] not in _CONFIRMED_STATES[mutation] or (plan["reverts"] and mutation == "revertBatch"):
        return RunAction(plan["id"], None) if is_new else command
    batch_report.show(plan)
    if _answer_is_yes(_question(plan, mutation)):
        return RunAction(plan["id"], mutation)
    if is_new:
        common.run(_cancel(new_client, plan["id"]))
        common.print_line(f"{plan['id']}: CANCELLED. Nothing was updated.")
    else:
        common.print_line(f"Nothing was updated. {plan['id']} is still {plan['status']}.")
    raise typer.Exit(1)


def _question(run: Json, mutation: str) -> str:
    number = f"{batch_report.updated(run):,} preferences"
    if mutation == "revertBatch":  # what somebody has changed since stays
        return f"\nUndo {run['id']}: put back up to {number}?"
    return f"\nUpdate {number}?"


def _answer_is_yes(question: str) -> bool:
    """Ask a question and return whether the answer is yes. Ctrl+C and the end of the input mean no."""
    try:
        return typer.confirm(question)
    except (typer.Abort, KeyboardInterrupt):
        common.print_line("")
        return False


async def _plan(new_client: ClientFactory, command: BatchCommandOptions | RunAction) -> Json:
    """Return the plan for new options, or the run that an action will apply or revert."""
    async with new_client() as client:
        if isinstance(command, RunAction):
            return await batch_client.find_run(client, command.run_id)
        return await _start_and_follow(client, replace(command, dry_run=True))


async def _cancel(new_client: ClientFactory, run_id: str) -> None:
    async with new_client() as client:
        await batch_client.run_action(client, "cancelBatch", run_id)


async def _execute(
    new_client: ClientFactory, command: BatchCommandOptions | RunAction, file: TextIO | None, as_json: bool
) -> Json:
    async with new_client() as client:
        run = await _start_and_follow(client, command)
        _report(run, as_json)
        if file is not None:
            await _write_exclusions(client, run, file)
        return run


async def _start_and_follow(client: GraphQLClient, command: BatchCommandOptions | RunAction) -> Json:
    """Start a command and return its run when it has ended or is PLANNED."""
    run = await _start(client, command)
    try:
        return await batch_client.follow(client, run)
    except BaseException:  # Ctrl+C, or the server no longer answers
        _print_how_to_return(run["id"])
        raise


async def _start(client: GraphQLClient, command: BatchCommandOptions | RunAction) -> Json:
    if isinstance(command, BatchCommandOptions):
        return await batch_client.submit(client, await _request(client, command))
    if command.mutation is None:
        return await batch_client.find_run(client, command.run_id)
    return await batch_client.run_action(client, command.mutation, command.run_id)


async def _request(client: GraphQLClient, options: BatchCommandOptions) -> Json:
    scope: Json = {}
    if options.schools:
        schools = (await client.execute(_SCHOOLS))["schools"]
        scope["schoolIds"] = [_find_choice("school", name, schools) for name in options.schools]
    if options.filter:
        scope["filterId"] = await _filter_id(client, options.mode, options.filter)
    if options.grades:
        scope["grades"] = list(options.grades)
    if options.school_year is not None:
        scope["schoolYear"] = options.school_year
    request: Json = {"mode": options.mode, "scope": scope, "cells": list(options.cells)}
    if options.dry_run:
        request["dryRun"] = True
    return {**request, "keepChosen": options.keep_chosen}


async def _filter_id(client: GraphQLClient, mode: str, wanted: str) -> str:
    """Return the id of the filter with this name, or `wanted` if it is an id. Raises Rejected."""
    if parse_id(IdKind.SAVED_FILTER, wanted) is not None:
        return wanted  # the server knows whether there is one, and whether the mode takes it
    choices = await client.execute(_FILTERS)
    kinds = {each["filterKind"] for each in choices["batchModes"] if each["code"] == mode}
    fitting = [each for each in choices["savedFilters"] if each["kind"] in kinds]
    return _find_choice(_FILTER, wanted, fitting)


def _find_choice(what: str, wanted: str, choices: Iterable[Json]) -> str:
    """Return the id of the only choice with this id, source id or name. Raises Rejected. `what`: for messages."""
    listed = list(choices)
    for matches in (
        lambda choice: wanted in (choice["id"], choice.get("sourceId")),
        lambda choice: choice["name"].casefold() == wanted.casefold(),
    ):
        found = [str(choice["id"]) for choice in listed if matches(choice)]
        if len(found) == 1:
            return found[0]
        if found:
            message = f"More than one {what} is named {wanted!r}: {', '.join(found)}. Give the id."
            raise Rejected([UserError("AMBIGUOUS", message)])
    names = ", ".join(repr(choice["name"]) for choice in listed[:10]) or "none"
    more = " and more" if len(listed) > 10 else ""
    message = f"There is no {what} {wanted[:60]!r} to choose. There are {names}{more}."
    if not listed and what == _FILTER:
        message += " Make one with the mutation `saveFilter`."
    raise Rejected([UserError("UNKNOWN", message)])


def _report(run: Json, as_json: bool) -> None:
    if as_json:
        for error in run["errors"]:
            common.print_error(error)
        sys.stdout.write(f"{orjson.dumps(run, option=orjson.OPT_INDENT_2).decode()}\n")
        return
    status = run["status"]
    batch_report.show(run)
    common.print_line(f"\n{run['id']}: {status}")
    if status == "PLANNED":
        common.print_line(f"Nothing is written yet. Apply it with: gql-server batch --apply {run['id']}")
    elif status == "DONE" and not run["reverts"]:
        common.print_line(f"Undo it with: gql-server batch --revert {run['id']}")


def _print_how_to_return(run_id: str) -> None:
    common.stderr.print(
        f"\nThe run {run_id} goes on without this command. Cancel it with: gql-server batch --cancel {run_id}\n"
        f"Follow it again with: gql-server batch --watch {run_id}",
        markup=False, soft_wrap=True,
    )  # fmt: skip


@contextmanager
def _atomic_file(path: Path | None) -> Iterator[TextIO | None]:
    """Give a file that gets its name when it is complete. Raises ConfigurationError if it cannot be created."""
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
    """Write all exclusions of a run as CSV, one line for each."""
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
