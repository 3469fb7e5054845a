"""The commands, thin: read the arguments, call what does the work, print what came of it."""

import re
import sys
from datetime import timedelta
from enum import StrEnum
from os import environ
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from gql_server import __version__
from gql_server.api.auth import Tokens
from gql_server.cli import batch_order, common, demo, server
from gql_server.domain.viewer import Role
from gql_server.errors import ConfigurationError
from gql_server.settings import describe, load_settings, unknown_variables

app = typer.Typer(
    name="gql-server",
    help="A GraphQL API with plug-in contact rules for school districts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
imports = typer.Typer(help="Bring in what another system knows of a district.", no_args_is_help=True)
app.add_typer(imports, name="import")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=3650)
_BATCH_HELP = (
    "Set preferences for a whole population on a running server, watch the run, and print what came of it.\n\n"
    "On a terminal it shows first what would be done: how many preferences it would update, whose own choices it would "
    "overwrite, whom the household phones concern; and asks before it sets anything. Before it undoes a run it shows "
    "what that did, and asks. With --yes or --json, or where its input or output is no terminal, it does not ask."
)
_URL, _TOKEN = "GQL_SERVER_URL", "GQL_SERVER_TOKEN"


class Messenger(StrEnum):
    """Which relationships of an import become messenger contacts (D8)."""

    PRIMARY = "primary"
    EMERGENCY = "emergency"
    ALL = "all"


def _version(wanted: bool) -> None:
    if wanted:
        common.say(f"gql-server {__version__}")
        raise typer.Exit


def duration(text: str | timedelta) -> timedelta:
    """Return a length of time such as 90s, 15m, 1h or 7d. Raises BadParameter."""
    if isinstance(text, timedelta):
        return text
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text.strip())
    length = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None
    if length is None or length > _LONGEST:
        raise typer.BadParameter("write a number with s, m, h or d, such as 15m, 1h or 7d, of 3650d at most.")
    return length


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    common.leave_tidily()


@app.command()
def serve() -> None:
    """Serve the API. Settings come from GQL_SERVER_… variables; `gql-server settings` lists them."""
    server.serve(load_settings())


@app.command()
def migrate() -> None:
    """Bring the database up to date, and give districts the reasons of new plug-ins."""
    server.migrate_database(load_settings())


@app.command("demo")
def demo_(
    students: Annotated[
        int, typer.Option(min=1, max=5_000_000, help="Students in the sample district.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(help="The same size and seed make the same district.")] = 1,
    once: Annotated[
        bool, typer.Option("--once", help="Run one sample batch, print its result, and end.")
    ] = False,
) -> None:
    """Serve a sample district from an embedded PostgreSQL, with tokens to try it with. Nothing is kept."""
    demo.run_demo(load_settings(), students=students, seed=seed, once=once)


@app.command(help=_BATCH_HELP)
def batch(
    mode: Annotated[
        str | None, typer.Option(help="Whom to select: STUDENT_CONTACTS, STUDENTS, CENSUS_STAFF or another.")
    ] = None,
    cells: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="CELL", help="What to set, such as CELL_PHONE:EMERGENCY=ON. Repeatable."
        ),
    ] = None,
    school: Annotated[
        list[str] | None, typer.Option(help="Only this school, by name or id. Repeatable.")
    ] = None,
    grade: Annotated[list[str] | None, typer.Option(help="Only this grade. Repeatable.")] = None,
    school_year: Annotated[int | None, typer.Option(help="The year it ends in, if not the current.")] = None,
    filter: Annotated[str | None, typer.Option(help="A saved filter, by name or id.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only plan: count, and write nothing.")] = False,
    keep_chosen: Annotated[
        bool, typer.Option("--keep-chosen", help="Leave alone what people chose for themselves.")
    ] = False,
    apply: Annotated[str | None, typer.Option(metavar="RUN", help="Apply this plan of a dry run.")] = None,
    cancel: Annotated[str | None, typer.Option(metavar="RUN", help="Cancel this run.")] = None,
    revert: Annotated[str | None, typer.Option(metavar="RUN", help="Undo this run.")] = None,
    watch: Annotated[str | None, typer.Option(metavar="RUN", help="Only look on at this run.")] = None,
    exclusions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Write who was kept out, and why, as CSV."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run with its numbers as JSON.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not show a plan first and ask.")] = False,
    url: Annotated[str, typer.Option(envvar=_URL, help="The server.")] = "http://127.0.0.1:8000",
    token: Annotated[
        str, typer.Option(envvar=_TOKEN, show_default=False, help="An administrator's token.")
    ] = "",
) -> None:
    if not token:
        raise ConfigurationError(f"There is no token. Give one as --token, or set it as {_TOKEN}.")
    order = batch_order.Order(
        mode=(mode or "").upper(), cells=[batch_order.parse_cell(cell) for cell in cells or ()],
        schools=school or (), grades=grade or (), school_year=school_year, filter=filter,
        dry_run=dry_run, keep_chosen=keep_chosen,
    )  # fmt: skip
    acts = {"applyBatch": apply, "cancelBatch": cancel, "revertBatch": revert, None: watch}
    what = batch_order.understand(order, acts)
    ask = not (yes or as_json) and sys.stdin.isatty() and sys.stdout.isatty()
    try:
        good = batch_order.carry_out(
            what, url=url, token=token, exclusions=exclusions, as_json=as_json, ask=ask
        )
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not good:
        raise typer.Exit(1)


@imports.command("edfi")
def import_edfi(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the Ed-Fi bulk XML files.")],
    district: Annotated[str, typer.Option(help="Code of the district; made where it does not exist.")],
    messenger: Annotated[
        Messenger, typer.Option(help="Which contacts of a student get messages for student contacts.")
    ] = Messenger.PRIMARY,
    time_zone: Annotated[
        str, typer.Option(help="Time zone of a district that does not exist yet, such as America/Chicago.")
    ] = "UTC",
) -> None:
    """Import Ed-Fi bulk XML: all of it, or nothing where a file is at fault."""
    server.import_edfi(load_settings(), folder, code=district, messenger=messenger.value, time_zone=time_zone)


@app.command()
def token(
    district: Annotated[str, typer.Option(help="Code of the district.")],
    role: Annotated[Role, typer.Option(case_sensitive=False, help="What the bearer may do.")],
    person: Annotated[
        str | None,
        typer.Option(metavar="SOURCE_ID", help="The person: needed for staff, guardian and student."),
    ] = None,
    expires: Annotated[
        timedelta,
        typer.Option(parser=duration, metavar="DURATION", help="How long it holds, such as 15m, 1h, 7d."),
    ] = timedelta(hours=1),
) -> None:
    """Print a token alone, signed with GQL_SERVER_SIGNING_KEY."""
    tokens = Tokens.of(load_settings())
    common.say(tokens.issue(district, role, person, expires))


@app.command("export-schema")
def export_schema() -> None:
    """Print the GraphQL schema as SDL."""
    from gql_server.api.schema import print_sdl

    sys.stdout.write(f"{print_sdl().rstrip()}\n")


@app.command()
def settings() -> None:
    """List every setting with its value; secrets are masked."""
    for setting in describe(load_settings()):
        style = "dim" if setting.is_default else "bold"
        common.stdout.print(Text(f"{setting.variable} = {setting.value}"), style=style, soft_wrap=True)
        common.stdout.print(Padding(Text(setting.description), (0, 0, 0, 4), expand=False), style=style)
    for name in unknown_variables(environ):
        common.complain(f"There is no setting {name}. Is it misspelt?")


@app.command()
def plugins() -> None:
    """List the plug-ins with their hooks, in the order in which they are asked."""
    from gql_server.app import make_host

    headings = ("Name", "Version", "Distribution", "Enabled", "Hooks")
    table = Table(*(Column(heading, overflow="fold") for heading in headings), box=None, pad_edge=False)
    for plugin in make_host(load_settings()).plugins:
        enabled = "yes" if plugin.enabled else "no"
        where = plugin.distribution or "-"
        table.add_row(escape(plugin.name), plugin.version or "-", where, enabled, ", ".join(plugin.hooks))
    common.stdout.print(table)
