"""`serve`, `migrate` and `import`: what the commands do on a district's own database."""

from pathlib import Path

from rich.table import Table

from gql_server.api.auth import Tokens
from gql_server.cli import common
from gql_server.db.migrations import migrate, retry_on_lock_timeout
from gql_server.db.pool import connect
from gql_server.db.protocols import Connection
from gql_server.hooks.host import PluginHost
from gql_server.services.districts import register_reasons
from gql_server.services.imports.report import ImportReport
from gql_server.settings import Settings


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; apply nothing. Raises ConfigurationError where something is missing."""
    from gql_server import app

    Tokens.of(settings)  # before a database is started
    with common.database(settings) as dsn:
        common.run(app.serve(settings, dsn, ready=lambda url: common.say(f"Serving on {url}/graphql")))


def migrate_database(settings: Settings) -> None:
    """Apply what is pending, give districts the plug-ins' reasons (D3), and say what was done."""
    from gql_server.app import make_host

    host = make_host(settings)
    with common.database(settings) as dsn:
        applied, reasons = common.run(_migrate(settings, dsn, host))
    for name in applied:
        common.say(f"Applied {name}.")
    if not applied:
        common.say("The database was up to date.")
    if reasons:
        common.say(f"Registered reasons with districts: {reasons}.")
    else:
        common.say("Every district has the reasons of all loaded plug-ins.")


async def _migrate(settings: Settings, dsn: str, host: PluginHost) -> tuple[list[str], int]:
    lock_timeout = settings.migrate_lock_timeout
    async with connect(dsn, unnamed_statements=settings.unnamed_statements) as conn:
        applied = await migrate(conn, lock_timeout=lock_timeout, report=common.say)

        async def register(conn: Connection) -> int:
            return await register_reasons(conn, host.reasons)

        return applied, await retry_on_lock_timeout(
            conn, register, lock_timeout=lock_timeout, report=common.say
        )


def import_edfi(settings: Settings, folder: Path, *, code: str, messenger: str, time_zone: str) -> None:
    """Import a folder of Ed-Fi XML and print what came in and what was left out. Raises ImportFailed."""
    with common.database(settings) as dsn:
        work = _import_edfi(settings, dsn, folder, code=code, messenger=messenger, time_zone=time_zone)
        report = common.run(work)
    _show(report)


async def _import_edfi(
    settings: Settings, dsn: str, folder: Path, *, code: str, messenger: str, time_zone: str
) -> ImportReport:
    from gql_server.app import make_host, require_migrated
    from gql_server.services.imports.edfi import import_edfi as import_folder

    host = make_host(settings)
    async with connect(dsn, unnamed_statements=settings.unnamed_statements) as conn:
        await require_migrated(conn)
        return await import_folder(conn, host, folder, code=code, messenger=messenger, time_zone=time_zone)


def _show(report: ImportReport) -> None:
    table = Table("Of these", box=None, pad_edge=False)
    for heading in ("New", "Changed", "Unchanged"):
        table.add_column(heading, justify="right")
    for kind, *counts in report.rows():
        table.add_row(kind, *(f"{count:,}" for count in counts))
    common.stdout.print(table)
    if report.left_out:
        common.say("\nLeft out, or taken as something else:")
    for why, count in report.left_out.items():
        common.say(f"  {count:,} {why}")
    revision = "nothing changed" if report.revision is None else f"revision {report.revision}"
    common.say(f"\nDistrict {report.district_code}: {revision}.")
