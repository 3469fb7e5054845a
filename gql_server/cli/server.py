"""The commands that use the database directly: `serve`, `migrate` and `import`."""

from pathlib import Path

from rich.table import Table

from gql_server.api.auth import Tokens
from gql_server.cli import common
from gql_server.db.migrations import migrate, require_no_servers, retry_on_lock_timeout
from gql_server.db.pool import connect
from gql_server.db.protocols import Connection
from gql_server.hooks.host import PluginHost
from gql_server.services.districts import register_reasons
from gql_server.services.imports.report import ImportReport
from gql_server.settings import Settings


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Migrations are not applied. Raises ConfigurationError."""
    from gql_server import app
    from gql_server.cli import workers

    Tokens.of(settings)  # fails early, before an embedded server is started
    several = settings.workers > 1
    serve_ = workers.serve if several else app.serve
    with_workers = f" with {settings.workers} workers" if several else ""
    with common.database(settings) as dsn:
        common.run(
            serve_(
                settings, dsn, ready=lambda url: common.print_line(f"Serving on {url}/graphql{with_workers}")
            )
        )


def migrate_database(settings: Settings, *, while_connected: bool) -> None:
    """Apply pending migrations, give districts the reasons of the plug-ins (D3), and print what was done.

    Raises ConfigurationError where migrations are pending and servers are connected, unless `while_connected`.
    """
    from gql_server.app import make_host

    host = make_host(settings)
    with common.database(settings) as dsn:
        applied, reasons = common.run(_migrate(settings, dsn, host, while_connected))
    for name in applied:
        common.print_line(f"Applied {name}.")
    if not applied:
        common.print_line("The database was up to date.")
    if reasons:
        common.print_line(f"Registered reasons with districts: {reasons}.")
    else:
        common.print_line("Every district has the reasons of all loaded plug-ins.")


async def _migrate(
    settings: Settings, dsn: str, host: PluginHost, while_connected: bool
) -> tuple[list[str], int]:
    lock_timeout = settings.migrate_lock_timeout
    async with connect(
        dsn, unnamed_statements=settings.unnamed_statements, application_name="gql-server migrate"
    ) as conn:
        if not while_connected:
            await require_no_servers(conn)
        applied = await migrate(conn, lock_timeout=lock_timeout, report=common.print_line)

        async def register(conn: Connection) -> int:
            return await register_reasons(conn, host.reasons)

        return applied, await retry_on_lock_timeout(
            conn, register, lock_timeout=lock_timeout, report=common.print_line
        )


def import_edfi(settings: Settings, folder: Path, *, code: str, messenger: str, time_zone: str) -> None:
    """Import a folder of Ed-Fi XML and print the counts of its records. Raises ImportFailed."""
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
    table = Table("Records", box=None, pad_edge=False)
    for heading in ("New", "Changed", "Unchanged"):
        table.add_column(heading, justify="right")
    for kind, *counts in report.rows():
        table.add_row(kind, *(f"{count:,}" for count in counts))
    common.stdout.print(table)
    if report.left_out:
        common.print_line("\nLeft out or changed:")
    for cause, count in report.left_out.items():
        common.print_line(f"  {count:,} {cause}")
    revision = "nothing changed" if report.revision is None else f"revision {report.revision}"
    common.print_line(f"\nDistrict {report.district_code}: {revision}.")
