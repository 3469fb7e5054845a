"""Finds, loads and validates plug-ins, and calls their hooks. Fails closed: a plug-in at fault stops the start."""

import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from gql_server.domain.batch import FilterKind
from gql_server.errors import PluginError
from gql_server.hooks import spec
from gql_server.hooks.types import (
    BatchMode,
    ContactReason,
    FilterField,
    Population,
    PreferenceChanges,
    Request,
    Rule,
    RunSummary,
    Scope,
)

ENTRY_POINTS = "gql_server.plugins"
_MODULE_PREFIX = "gql_server_plugin_"
T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class OwnedReason:
    """A contact reason and the plug-in that gives it."""

    code: str
    label: str
    description: str
    plugin: str


@dataclass(frozen=True, slots=True)
class OwnedMode:
    """A batch mode and the plug-in that gives it."""

    mode: BatchMode
    plugin: str


@dataclass(frozen=True, slots=True)
class OwnedRule:
    """A rule and the plug-in that said it: the host's stamp."""

    rule: Rule
    plugin: str

    @property
    def full_name(self) -> str:
        return f"{self.plugin}.{self.rule.name}"


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plug-in as `gql-server plugins` and the API list it."""

    name: str
    version: str | None
    distribution: str | None
    enabled: bool
    hooks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    version: str | None
    distribution: str | None
    load: Callable[[], Any]


class PluginHost:
    """The loaded plug-ins. Made once, by the composition root.

    Hooks are called in the order in which `gql-server plugins` lists the plug-ins: folder by folder, the built-in one
    first, then installed distributions, by name within each.
    """

    def __init__(self, folders: Iterable[Path], disabled: Iterable[str] = ()) -> None:
        """Load the plug-ins of the folders and of installed distributions. Raises PluginError."""
        self._manager = pluggy.PluginManager(spec.PROJECT)
        self._manager.add_hookspecs(spec)
        self._listed: list[LoadedPlugin] = []
        off = set(disabled)
        for found in _find(folders):
            self._register(found, enabled=found.name not in off)
        if unknown := off - {plugin.name for plugin in self._listed}:
            raise PluginError(min(unknown), "it is disabled in the settings, but there is no such plug-in.")
        self._names = [plugin.name for plugin in self._listed if plugin.enabled]
        self.reasons = self._reasons()
        self.modes = self._modes()
        self.fields = self._fields()

    @property
    def plugins(self) -> Sequence[LoadedPlugin]:
        return tuple(self._listed)

    def rules(self, request: Request) -> list[OwnedRule]:
        """Return the rules for a request, in the order of the plug-ins. Raises PluginError."""
        seen: set[str] = set()
        owned = []
        for plugin, rule in self._collect("eligibility_rules", Rule, request=request):
            if (rule.denies is None) == (rule.check is None):
                raise PluginError(plugin, f"rule {rule.name!r} must have either `denies` or `check`.")
            stamped = OwnedRule(rule, plugin)
            _once(seen, stamped.full_name, plugin, "rule")
            owned.append(stamped)
        return owned

    def population(self, mode: str, scope: Scope) -> Population:
        """Return the people of a mode that `modes` lists. Raises PluginError where its plug-in gives none."""
        plugin = self.modes[mode].plugin
        result = self._call("select_population", plugin, mode=mode, scope=scope)
        if not isinstance(result, Population):
            raise PluginError(plugin, f"it lists the mode {mode!r} but selects nobody for it.")
        return result

    def tell_run_finished(self, run: RunSummary) -> list[PluginError]:
        """Tell every plug-in; return, not raise, what failed: it undoes nothing."""
        return self._tell("run_finished", run=run)

    def tell_preferences_changed(self, changes: PreferenceChanges) -> list[PluginError]:
        """Tell every plug-in; return, not raise, what failed: it undoes nothing."""
        return self._tell("preferences_changed", changes=changes)

    def _register(self, found: _Found, *, enabled: bool) -> None:
        if any(found.name == other.name for other in self._listed):
            raise PluginError(found.name, "two plug-ins have this name. Rename or disable one.")
        hooks: tuple[str, ...] = ()
        if enabled:
            try:
                plugin = found.load()
                self._manager.register(plugin, name=found.name)
                self._manager.check_pending()
            except pluggy.PluginValidationError as error:
                raise PluginError(found.name, f"a hook does not fit its specification: {error}") from error
            except Exception as error:
                raise PluginError(found.name, f"it cannot be loaded: {type(error).__name__}: {error}") from error
            callers = self._manager.get_hookcallers(plugin) or []
            hooks = tuple(sorted(caller.name for caller in callers))
            if not hooks:
                raise PluginError(found.name, "it implements no hook. Mark its functions with `hookimpl`.")
        self._listed.append(LoadedPlugin(found.name, found.version, found.distribution, enabled, hooks))

    def _call(self, hook: str, plugin: str, **args: object) -> Any:
        """Call a hook of one plug-in, so that its result is known to be that plug-in's own."""
        others = [p for name, p in self._manager.list_name_plugin() if name != plugin and p is not None]
        try:
            return self._manager.subset_hook_caller(hook, others)(**args)
        except Exception as error:
            raise PluginError(plugin, f"{hook} failed: {type(error).__name__}") from error

    def _collect(self, hook: str, kind: type[T], **args: object) -> list[tuple[str, T]]:
        collected: list[tuple[str, T]] = []
        for plugin in self._names:
            for result in self._call(hook, plugin, **args):
                for value in result or ():
                    if not isinstance(value, kind):
                        raise PluginError(plugin, f"{hook} must give {kind.__name__} values, not {type(value).__name__}.")
                    collected.append((plugin, value))
        return collected

    def _tell(self, hook: str, **args: object) -> list[PluginError]:
        failed = []
        for plugin in self._names:
            try:
                self._call(hook, plugin, **args)
            except PluginError as error:
                failed.append(error)
        return failed

    def _reasons(self) -> list[OwnedReason]:
        seen: set[str] = set()
        reasons = []
        for plugin, reason in self._collect("contact_reasons", ContactReason):
            _once(seen, reason.code, plugin, "reason")
            reasons.append(OwnedReason(reason.code, reason.label, reason.description, plugin))
        return reasons

    def _modes(self) -> dict[str, OwnedMode]:
        modes: dict[str, OwnedMode] = {}
        for plugin, mode in self._collect("batch_modes", BatchMode):
            _once(set(modes), mode.code, plugin, "mode")
            modes[mode.code] = OwnedMode(mode, plugin)
        return modes

    def _fields(self) -> dict[FilterKind, dict[str, FilterField]]:
        seen: set[str] = set()
        fields: dict[FilterKind, dict[str, FilterField]] = {kind: {} for kind in FilterKind}
        for plugin, field in self._collect("filter_fields", FilterField):
            _once(seen, field.name, plugin, "filter field")
            for kind in field.kinds:
                fields[kind][field.name] = field
        return fields


def _once(seen: set[str], name: str, plugin: str, what: str) -> None:
    if name in seen:
        raise PluginError(plugin, f"the {what} {name!r} is given twice. Every {what} has one plug-in.")
    seen.add(name)


def _find(folders: Iterable[Path]) -> list[_Found]:
    found = [_in_folder(path) for folder in folders for path in sorted(_plugin_paths(folder))]
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
        dist = point.dist
        found.append(_Found(point.name, dist and dist.version, dist and dist.name, point.load))
    return found


def _plugin_paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise PluginError(folder.name, f"there is no folder {folder}.")
    packages = [path / "__init__.py" for path in folder.iterdir() if (path / "__init__.py").is_file()]
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    return packages + modules


def _in_folder(path: Path) -> _Found:
    name = path.parent.name if path.name == "__init__.py" else path.stem
    return _Found(name, None, None, lambda: _load_file(name, path))


def _load_file(name: str, path: Path) -> ModuleType:
    module_name = _MODULE_PREFIX + name
    spec_ = importlib.util.spec_from_file_location(module_name, path)
    if spec_ is None or spec_.loader is None:
        raise ImportError(f"{path} is not a Python module")
    module = importlib.util.module_from_spec(spec_)
    sys.modules[module_name] = module
    spec_.loader.exec_module(module)
    return module
