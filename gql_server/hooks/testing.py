"""For the authors of plug-ins: load one as the server would, and see that all it gives is sound."""

from pathlib import Path
from types import ModuleType

from gql_server.db.statements import resource_folder
from gql_server.domain.batch import Cell, Setting
from gql_server.domain.channels import ContactPointKind
from gql_server.domain.sql import Sql
from gql_server.errors import PluginError
from gql_server.hooks.discovery import load_file
from gql_server.hooks.host import PluginHost
from gql_server.hooks.types import Context, PreferenceChanges, Request, RunSummary, Scope

_FILTER = Sql("p.person_id = any(:ids::bigint[])", {"ids": [1]})
_SCOPES = (Scope(), Scope(school_ids=(1, 2), school_year=2026, grades=("09",), filter=_FILTER))


def plugin_host(plugin: Path | str | ModuleType) -> PluginHost:
    """Return a host with the built-in plug-ins and one more: a file, a package's folder or a module.

    Raises PluginError where the server would refuse to start with it.
    """
    name, module = _loaded(plugin)
    return PluginHost([resource_folder("plugins")], given={name: module})


def check_plugin(plugin: Path | str | ModuleType) -> None:
    """Load a plug-in beside the built-in ones and call each of its hooks in every way that the server would.

    Needs no database: what the SQL selects is for the author's own tests. Raises PluginError for whatever
    would fail once the server runs.
    """
    host = plugin_host(plugin)
    name = host.plugins[-1].name
    for code, owned in host.modes.items():
        if owned.plugin == name:
            for scope in _SCOPES:
                host.population(code, scope)
    cells = tuple(
        Cell(kind, reason.code, setting)
        for kind in ContactPointKind
        for reason in host.reasons
        for setting in (Setting.ON, Setting.OFF)
    )
    host.rules(Request(Context.WRITE, None, cells))
    host.rules(Request(Context.DELIVERY, None, cells))
    for code in host.modes:
        host.rules(Request(Context.BATCH, code, cells))
    failed = [
        *host.tell_run_finished(RunSummary("run_1", "STUDENTS", "DONE", 3)),
        *host.tell_preferences_changed(PreferenceChanges("maple", 1, "BATCH", 3)),
    ]
    for error in failed:
        if error.plugin == name:
            raise error


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
