"""What the commands print of a batch run: the matrix (D20), what else its cells say, what rules kept out."""

from collections.abc import Iterable

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gql_server.api.client import Json
from gql_server.cli import common
from gql_server.domain.channels import ContactPointKind

_RULES = 20
"""How many rules are told at most."""
_DONE = {
    "unchanged": "were already as asked",
    "overwroteChosen": "of those updated had been people's own choice",
    "keptChosen": "were left alone, being people's own choice",
}
_FORESEEN = {
    "unchanged": "are already as asked",
    "overwroteChosen": "of those to be updated are people's own choice, and would be overwritten",
    "keptChosen": "would be left alone, being people's own choice",
}
_REVERT = {
    "restored": "were restored",
    "leftAlone": "were left as they are: somebody has changed them since",
}
_DIFFERENCE = {
    "leftPopulation": "people or households of the plan are no longer selected and were skipped",
    "choseSince": "preferences were chosen by people since the plan and stay so",
    "excludedSince": "preferences are kept out by a rule only since the plan",
}


def show(run: Json) -> None:
    """Print what became of a run, or what a plan foresees: errors on top, the matrix, the notes, who was kept out."""
    for error in run["errors"]:
        common.complain(error)
    common.tell(f"\n{run['mode']}, {run['population']:,} people selected. {_headline(run)}")
    if not _to_tell(run):
        return
    common.say("")
    common.stdout.print(matrix(_cells(run)))
    told = [*_reached(run), *notes(run)]
    if told:
        common.say("")
    for line in told:
        common.tell(line)
    _show_kept_out(run)


def updated(run: Json) -> int:
    """Return how many preferences a run has updated, or a plan would update."""
    return _sum(run, "updated")


def notes(run: Json) -> Iterable[str]:
    """Yield a line for each thing that a run's cells say beside the numbers updated, summed over them."""
    for key, words in (_FORESEEN if _is_plan(run) else _DONE).items():
        if count := _sum(run, key):
            yield f"{count:,} {words}."
    for key, words in _REVERT.items():
        if run[key] is not None:
            yield f"{run[key]:,} {words}."
    difference = run["difference"] or {}
    for key, words in _DIFFERENCE.items():
        if difference.get(key):
            yield f"{difference[key]:,} {words}."
    if difference.get("outdated"):
        yield "The plan was older than the server's limit when it was applied."


def matrix(cells: list[Json]) -> Table:
    """Return the table of a result: reasons by contact points, each cell the number updated, or a dot for No Change.

    The reasons are its rows, since plug-ins add more of them: 80 columns hold any number.
    """
    numbers = {(cell["contactPoint"], cell["reason"]): cell["updated"] for cell in cells}
    kinds, reasons = (list(dict.fromkeys(key[place] for key in numbers)) for place in (0, 1))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("\n. No Change", overflow="fold")
    for kind in kinds:
        first, *rest = ContactPointKind(kind).words.capitalize().split(maxsplit=1)
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
    """Return what a plan foresees, or what a run did: never the one as the other (D20)."""
    cells: list[Json] = run["forecast"] if _is_plan(run) else run["results"]
    return cells


def _sum(run: Json, key: str) -> int:
    return sum(cell[key] or 0 for cell in _cells(run))


def _to_tell(run: Json) -> bool:
    """Whether there is more to tell than that nothing was done."""
    return run["status"] not in ("FAILED", "CANCELLED") or updated(run) > 0


def _headline(run: Json) -> str:
    status = run["status"]
    if not _to_tell(run):
        return f"{status}: nothing was updated."
    if run["reverts"]:
        return "Preferences put back:"
    return {
        "PLANNED": "Preferences that would be updated:",
        "DONE": "Preferences updated:",
        "REVERTED": "Preferences updated, and reverted since:",
    }.get(status, f"{status}. Preferences updated until then:")


def _reached(run: Json) -> Iterable[str]:
    """Yield what there is to know where a household phone was set: whom it concerns (D17)."""
    reached = [
        f"{cell['reason']} {cell['peopleAffected']:,}"
        for cell in _cells(run)
        if cell["contactPoint"] == ContactPointKind.HOUSEHOLD_PHONE and cell["peopleAffected"] is not None
    ]
    if reached:
        changed = "that would change" if _is_plan(run) else "changed"
        yield (
            "The household phone belongs to everyone who lives there. People in the households"
            f" {changed}: {', '.join(reached)}."
        )


def _show_kept_out(run: Json) -> None:
    """Print how much each rule kept out, and why."""
    rules = run["excludedByRule"]
    if not rules:
        return
    total = sum(rule["excluded"] for rule in rules)
    common.tell(f"\n{total:,} {'would be' if _is_plan(run) else 'were'} kept out by rules:")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for rule in rules[:_RULES]:
        table.add_row(f"{rule['excluded']:,}", Text(rule["rule"]), Text(rule["because"]))
    common.stdout.print(Padding(table, (0, 0, 0, 2), expand=False))
    if len(rules) > _RULES:
        common.say(f"  and by {len(rules) - _RULES} more rules.")
