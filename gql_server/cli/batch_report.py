"""Prints a batch run: the matrix (D20), notes on its cells, and the exclusions by rule."""

from collections.abc import Iterable

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gql_server.api.client import Json
from gql_server.cli import common
from gql_server.domain.channels import ContactPointKind

_MAX_RULES = 20
"""How many rules are listed."""
_RESULT_NOTES = {
    "unchanged": "were already set as requested",
    "overwroteChosen": "of those updated had been people's own choice",
    "keptChosen": "were left alone because they are people's own choice",
}
_FORECAST_NOTES = {
    "unchanged": "are already set as requested",
    "overwroteChosen": "of those to be updated are people's own choice, and would be overwritten",
    "keptChosen": "would be left alone because they are people's own choice",
}
_REVERT_RESULT_NOTES = {**_RESULT_NOTES, "unchanged": "already were as before the run"}
_REVERT_NOTES = {
    "restored": "were restored",
    "leftAlone": "were left as they are: somebody has changed them since",
}
_DIFFERENCE_NOTES = {
    "leftPopulation": "people or households of the plan are no longer selected and were skipped",
    "choseSince": "preferences were chosen by people since the plan and left alone",
    "excludedSince": "preferences were excluded by a rule that did not deny them in the plan",
}


def show(run: Json) -> None:
    """Print the result of a run, or the forecast of a plan: errors first, then the matrix, notes, and exclusions."""
    for error in run["errors"]:
        common.print_error(error)
    common.print_text(f"\n{run['mode']}, {run['population']:,} people selected. {_headline(run)}")
    if not _has_result(run):
        return
    common.print_line("")
    common.stdout.print(matrix(_cells(run)))
    lines = [*_people_affected(run), *notes(run)]
    if lines:
        common.print_line("")
    for line in lines:
        common.print_text(line)
    _print_exclusions(run)


def updated(run: Json) -> int:
    """Return how many preferences a run has updated, or a plan would update."""
    return _sum(run, "updated")


def notes(run: Json) -> Iterable[str]:
    """Yield a line for each other count of a run, summed over its cells."""
    of_result = _REVERT_RESULT_NOTES if run["reverts"] else _RESULT_NOTES
    for key, words in (_FORECAST_NOTES if _is_plan(run) else of_result).items():
        if count := _sum(run, key):
            yield f"{count:,} {words}."
    for key, words in _REVERT_NOTES.items():
        if run[key] is not None:
            yield f"{run[key]:,} {words}."
    difference = run["difference"] or {}
    for key, words in _DIFFERENCE_NOTES.items():
        if difference.get(key):
            yield f"{difference[key]:,} {words}."
    if difference.get("outdated"):
        yield "The plan was older than the server's limit when it was applied."


def matrix(cells: list[Json]) -> Table:
    """Return the matrix as a table. Each cell is the number of preferences updated, or a dot for No Change.

    Reasons are the rows and contact points the columns, so that it fits 80 columns however many reasons there are.
    """
    numbers = {(cell["contactPoint"], cell["reason"]): cell["updated"] for cell in cells}
    kinds = list(dict.fromkeys(kind for kind, _ in numbers))
    reasons = list(dict.fromkeys(reason for _, reason in numbers))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("\n. No Change", overflow="fold")
    for kind in kinds:
        first, *rest = ContactPointKind(kind).label.capitalize().split(maxsplit=1)
        heading = f"{first}\n{rest[0]}" if rest else f"\n{first}"
        table.add_column(heading, justify="right", no_wrap=True)
    for reason in reasons:
        row = (numbers[kind, reason] for kind in kinds)
        table.add_row(
            escape(reason.replace("_", " ")), *("." if number is None else f"{number:,}" for number in row)
        )
    return table


def _is_plan(run: Json) -> bool:
    return bool(run["status"] == "PLANNED")


def _cells(run: Json) -> list[Json]:
    """Return the forecast of a plan, or the results of a run. They are different fields (D20)."""
    cells: list[Json] = run["forecast"] if _is_plan(run) else run["results"]
    return cells


def _sum(run: Json, key: str) -> int:
    return sum(cell[key] or 0 for cell in _cells(run))


def _has_result(run: Json) -> bool:
    """Return False if a run ended without updating anything."""
    return run["status"] not in ("FAILED", "CANCELLED") or updated(run) > 0


def _headline(run: Json) -> str:
    status = run["status"]
    if not _has_result(run):
        return f"{status}: nothing was updated."
    if run["reverts"]:
        return "Preferences put back:"
    return {
        "PLANNED": "Preferences that would be updated:",
        "DONE": "Preferences updated:",
        "REVERTED": "Preferences updated, and reverted since:",
    }.get(status, f"{status}. Preferences updated until then:")


def _people_affected(run: Json) -> Iterable[str]:
    """Yield how many people are affected if a household phone was set (D17)."""
    counts = [
        f"{cell['reason']} {cell['peopleAffected']:,}"
        for cell in _cells(run)
        if cell["contactPoint"] == ContactPointKind.HOUSEHOLD_PHONE and cell["peopleAffected"] is not None
    ]
    if counts:
        changed = "that would change" if _is_plan(run) else "changed"
        yield (
            "The household phone belongs to everyone who lives there. People in the households"
            f" {changed}: {', '.join(counts)}."
        )


def _print_exclusions(run: Json) -> None:
    """Print how many preferences each rule excluded, and why."""
    rules = run["excludedByRule"]
    if not rules:
        return
    total = sum(rule["excluded"] for rule in rules)
    common.print_text(f"\n{total:,} {'would be' if _is_plan(run) else 'were'} excluded by rules:")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for rule in rules[:_MAX_RULES]:
        table.add_row(f"{rule['excluded']:,}", Text(rule["rule"]), Text(rule["because"]))
    common.stdout.print(Padding(table, (0, 0, 0, 2), expand=False))
    if len(rules) > _MAX_RULES:
        common.print_line(f"  and by {len(rules) - _MAX_RULES} more rules.")
