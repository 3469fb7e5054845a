"""For the authors of plug-ins: loads one as the server would, and validates all that it gives."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from gql_server.db.statements import resource_folder
from gql_server.domain.batch import Setting
from gql_server.domain.channels import ContactPointKind, batch_method, methods
from gql_server.domain.sql import Sql
from gql_server.domain.viewer import Role
from gql_server.errors import PluginError
from gql_server.hooks.discovery import load_file
from gql_server.hooks.host import PluginHost
from gql_server.hooks.types import (
    BatchMode,
    BatchScope,
    Cell,
    Context,
    PreferenceChanges,
    RuleRequest,
    RunSummary,
)

_FILTER = Sql("p.person_id = any(:ids::bigint[])", {"ids": [1]})
_RUN = RunSummary(run_id="run_1", district="maple", mode="STUDENTS", status="DONE", population=3)
_CHANGES = PreferenceChanges(district="maple", revision=1, source="BATCH", preferences=3)


def plugin_host(plugin: Path | str | ModuleType) -> PluginHost:
    """Return a host with the built-in plug-ins and one more: a file, a package's folder or a module.

    Raises PluginError where the server would refuse to start with it.
    """
    name, module = _loaded(plugin)
    return PluginHost([resource_folder("plugins")], given={name: module})


def validate_plugin(plugin: Path | str | ModuleType) -> None:
    """Load a plug-in beside the built-in ones and call each of its hooks in every way that the server would.

    It needs no database: what the SQL selects is for the author's own tests. Raises PluginError for whatever would fail
    once the server runs.
    """
    host = plugin_host(plugin)
    name = host.plugins[-1].name
    for code, owned in host.modes.items():
        if owned.plugin == name:
            for scope in _scopes(owned.mode):
                host.population(code, scope)
    for request in _requests(host):
        host.rules(request)
    for error in (
        *notify_listeners(host, "run_finished", run=_RUN),
        *notify_listeners(host, "preferences_changed", changes=_CHANGES),
    ):
        if error.plugin == name:
            raise error


def notify_listeners(host: PluginHost, hook: str, **args: object) -> list[PluginError]:
    """Call the listeners of every plug-in and return the errors. Nothing is raised: no error undoes anything."""
    failed = []
    with ThreadPoolExecutor(1) as thread:  # the caller's thread may have a running event loop
        for plugin in host.plugins_with(hook):
            try:
                thread.submit(asyncio.run, host.notify(plugin, hook, **args)).result()
            except PluginError as error:
                failed.append(error)
    return failed


def _scopes(mode: BatchMode) -> Iterator[BatchScope]:
    """Yield the smallest and the largest scope that the server lets a caller name for a mode (D12)."""
    smallest = BatchScope(district="maple", role=Role.ADMIN, filter=_FILTER if mode.filter_required else None)
    yield smallest
    yield replace(
        smallest,
        school_ids=(1, 2),
        school_year=2026 if mode.school_year_allowed else None,
        grades=("09",) if mode.grades_allowed else None,
        filter=_FILTER,
    )


def _requests(host: PluginHost) -> Iterator[RuleRequest]:
    """Yield requests of each context, each mode and each role, for all cells and for one cell alone."""
    cells = _cells(host)
    batch = tuple(cell for cell in cells if cell.method is batch_method(cell.contact_point))
    for mode in host.modes:
        yield _request(Context.BATCH, Role.ADMIN, mode, batch)
    for role in (Role.ADMIN, Role.STAFF, Role.GUARDIAN, Role.STUDENT):
        yield _request(Context.WRITE, role, None, cells)
    for cell in cells:
        yield _request(Context.WRITE, Role.ADMIN, None, (cell,))
    yield _request(
        Context.DELIVERY, Role.VENDOR, None, tuple(cell for cell in cells if cell.set is Setting.ON)
    )


def _cells(host: PluginHost) -> tuple[Cell, ...]:
    """Return every cell that a request could name, by each method."""
    return tuple(
        Cell(kind, method, reason.code, setting)
        for kind in ContactPointKind
        for method in methods(kind)
        for reason in host.reasons
        for setting in (Setting.ON, Setting.OFF)
    )


def _request(context: Context, role: Role, mode: str | None, cells: tuple[Cell, ...]) -> RuleRequest:
    return RuleRequest(
        context=context, district="maple", time_zone="America/Chicago", role=role, mode=mode, cells=cells
    )


def _loaded(plugin: Path | str | ModuleType) -> tuple[str, ModuleType]:
    if isinstance(plugin, ModuleType):
        return plugin.__name__.rpartition(".")[2], plugin
    path = Path(plugin)
    file = path / "__init__.py" if path.is_dir() else path
    name = path.name if path.is_dir() else path.stem
    try:
        return name, load_file(name, file)
    except (Exception, SystemExit) as error:
        raise PluginError(name, f"it cannot be loaded: {type(error).__name__}: {error}") from error
