"""The commands: each reads its arguments and calls the module that does the work."""

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
from gql_server.cli import batch_command, common, demo, server
from gql_server.domain.viewer import Role
from gql_server.errors import ConfigurationError
from gql_server.settings import MAX_WORKERS, describe, load_settings, unknown_variables

app = typer.Typer(
    name="gql-server",
    help="A GraphQL API with plug-in contact rules for school districts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
imports = typer.Typer(help="Import a district's data from another system.", no_args_is_help=True)
app.add_typer(imports, name="import")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MAX_DURATION = timedelta(days=3650)
_BATCH_HELP = (
    "Set preferences for a whole population on a running server, follow the run, and print its result.\n\n"
    "On a terminal the command first shows a plan and asks before it sets anything: how many preferences would be "
    "updated, how many of people's own choices would be overwritten, and how many people the household phones affect. "
    "Before it reverts a run, it shows what the run did and asks. It does not ask with --yes or --json, or if its "
    "input or output is not a terminal."
)
_URL, _TOKEN = "GQL_SERVER_URL", "GQL_SERVER_TOKEN"


class Messenger(StrEnum):
    """Which relationships become messenger contacts in an import (D8)."""

    PRIMARY = "primary"
    EMERGENCY = "emergency"
    ALL = "all"


def _print_version(wanted: bool) -> None:
    if wanted:
        common.print_line(f"gql-server {__version__}")
        raise typer.Exit


def duration(text: str | timedelta) -> timedelta:
    """Return the length of time of a text such as 90s, 15m, 1h or 7d. Raises BadParameter."""
    if isinstance(text, timedelta):
        return text
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text.strip())
    length = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None
    if length is None or length > _MAX_DURATION:
        raise typer.BadParameter("write a number with s, m, h or d, such as 15m, 1h or 7d; at most 3650d.")
    return length


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    common.exit_on_signals()


@app.command()
def serve(
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_WORKERS,
            help="Processes that serve on one port, one for each core. Default: GQL_SERVER_WORKERS, or 1.",
        ),
    ] = None,
) -> None:
    """Serve the API. Settings come from GQL_SERVER_… variables; `gql-server settings` lists them."""
    server.serve(load_settings() if workers is None else load_settings(workers=workers))


@app.command()
def migrate(
    while_connected: Annotated[
        bool,
        typer.Option(
            "--while-connected", help="Apply migrations although servers are connected to the database."
        ),
    ] = False,
) -> None:
    """Apply pending migrations, and give districts the reasons of new plug-ins. Stop all servers before."""
    server.migrate_database(load_settings(), while_connected=while_connected)


@app.command("demo")
def demo_(
    students: Annotated[
        int, typer.Option(min=1, max=5_000_000, help="Students in the sample district.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(help="The same size and seed generate the same district.")] = 1,
    once: Annotated[
        bool, typer.Option("--once", help="Run one sample batch, print its result, and exit.")
    ] = False,
) -> None:
    """Serve a sample district from an embedded PostgreSQL, and print tokens to try it. Nothing is kept."""
    demo.run_demo(load_settings(), students=students, seed=seed, once=once)


@app.command(help=_BATCH_HELP)
def batch(
    mode: Annotated[
        str | None,
        typer.Option(help="Whom to select: STUDENT_CONTACTS, STUDENTS, CENSUS_STAFF or a plug-in's mode."),
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
    school_year: Annotated[
        int | None,
        typer.Option(help="The school year, by the year in which it ends. Default: the current one."),
    ] = None,
    filter: Annotated[str | None, typer.Option(help="A saved filter, by name or id.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only plan: count the updates, and write nothing.")
    ] = False,
    keep_chosen: Annotated[
        bool, typer.Option("--keep-chosen", help="Do not change what people chose for themselves.")
    ] = False,
    apply: Annotated[
        str | None, typer.Option(metavar="RUN", help="Apply this run, the plan of a dry run.")
    ] = None,
    cancel: Annotated[str | None, typer.Option(metavar="RUN", help="Cancel this run.")] = None,
    revert: Annotated[str | None, typer.Option(metavar="RUN", help="Revert this run.")] = None,
    watch: Annotated[str | None, typer.Option(metavar="RUN", help="Only follow this run.")] = None,
    exclusions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Write the exclusions and their reasons as CSV."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run and its counts as JSON.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not show a plan and ask first.")] = False,
    url: Annotated[
        str, typer.Option(envvar=_URL, help="The address of the server.")
    ] = "http://127.0.0.1:8000",
    token: Annotated[
        str, typer.Option(envvar=_TOKEN, show_default=False, help="An administrator's token.")
    ] = "",
) -> None:
    if not token:
        raise ConfigurationError(f"There is no token. Give one as --token, or set it as {_TOKEN}.")
    options = batch_command.BatchCommandOptions(
        mode=(mode or "").upper(), cells=[batch_command.parse_cell(cell) for cell in cells or ()],
        schools=school or (), grades=grade or (), school_year=school_year, filter=filter,
        dry_run=dry_run, keep_chosen=keep_chosen,
    )  # fmt: skip
    actions = {"applyBatch": apply, "cancelBatch": cancel, "revertBatch": revert, None: watch}
    command = batch_command.parse_command(options, actions)
    ask = not (yes or as_json) and sys.stdin.isatty() and sys.stdout.isatty()
    try:
        succeeded = batch_command.execute(
            command, url=url, token=token, exclusions=exclusions, as_json=as_json, ask=ask
        )
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not succeeded:
        raise typer.Exit(1)


@imports.command("edfi")
def import_edfi(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the Ed-Fi bulk XML files.")],
    district: Annotated[
        str, typer.Option(help="Code of the district, which is created if it does not exist.")
    ],
    messenger: Annotated[
        Messenger, typer.Option(help="Which contacts of a student get messages for student contacts.")
    ] = Messenger.PRIMARY,
    time_zone: Annotated[
        str, typer.Option(help="Time zone of a new district, such as America/Chicago.")
    ] = "UTC",
) -> None:
    """Import Ed-Fi bulk XML: all files, or nothing if one of them has an error."""
    server.import_edfi(load_settings(), folder, code=district, messenger=messenger.value, time_zone=time_zone)


@app.command()
def token(
    district: Annotated[str, typer.Option(help="Code of the district.")],
    role: Annotated[Role, typer.Option(case_sensitive=False, help="What the bearer may do.")],
    person: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE_ID", help="The person's source id. Required for staff, guardian and student."
        ),
    ] = None,
    expires: Annotated[
        timedelta,
        typer.Option(
            parser=duration, metavar="DURATION", help="How long the token is valid, such as 15m, 1h, 7d."
        ),
    ] = timedelta(hours=1),
) -> None:
    """Print a token and nothing else. It is signed with GQL_SERVER_SIGNING_KEY."""
    tokens = Tokens.of(load_settings())
    common.print_line(tokens.issue(district, role, person, expires))


@app.command("export-schema")
def export_schema() -> None:
    """Print the GraphQL schema as SDL."""
    from gql_server.api.schema import print_sdl

    sys.stdout.write(f"{print_sdl().rstrip()}\n")


@app.command()
def settings() -> None:
    """List every setting with its value. Secrets are masked."""
    for setting in describe(load_settings()):
        style = "dim" if setting.is_default else "bold"
        common.stdout.print(Text(f"{setting.variable} = {setting.value}"), style=style, soft_wrap=True)
        common.stdout.print(Padding(Text(setting.description), (0, 0, 0, 4), expand=False), style=style)
    for name in unknown_variables(environ):
        common.print_warning(f"There is no setting {name}. Is it misspelled?")


@app.command()
def plugins() -> None:
    """List the plug-ins with their hooks, in the order in which they are called."""
    from gql_server.app import make_host

    headings = ("Name", "Version", "Distribution", "Enabled", "Hooks")
    table = Table(*(Column(heading, overflow="fold") for heading in headings), box=None, pad_edge=False)
    for plugin in make_host(load_settings()).plugins:
        enabled = "yes" if plugin.enabled else "no"
        where = plugin.distribution or "-"
        table.add_row(escape(plugin.name), plugin.version or "-", where, enabled, ", ".join(plugin.hooks))
    common.stdout.print(table)
