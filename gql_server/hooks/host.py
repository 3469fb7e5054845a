"""Loads and validates plug-ins, and calls their hooks. Fails closed: a faulty plug-in stops the start of the server."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pluggy

from gql_server.domain import defaults
from gql_server.domain.batch import FilterKind
from gql_server.domain.reasons import MAX_REASONS
from gql_server.errors import PluginError
from gql_server.hooks import spec
from gql_server.hooks.background import CurrentPlugin, HookCalls
from gql_server.hooks.discovery import FoundPlugin, find_plugins
from gql_server.hooks.types import (
    BatchMode,
    BatchScope,
    ContactReason,
    FilterField,
    Population,
    Rule,
    RuleRequest,
)
from gql_server.hooks.validation import value_problem

T = TypeVar("T")
LISTENERS = frozenset({"run_finished", "preferences_changed"})
"""The hooks that are notified of something and return nothing. Only they may be coroutine functions."""
_HOOKS = frozenset(name for name, value in vars(spec).items() if hasattr(value, f"{spec.PROJECT}_spec"))


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
    """A rule and the plug-in that gives it. built_in: whether that is part of the product."""

    rule: Rule
    plugin: str
    built_in: bool = False

    @property
    def full_name(self) -> str:
        """The name that is unique in the server: `plug-in.rule`."""
        return f"{self.plugin}.{self.rule.name}"


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plug-in as `gql-server plugins` and the API list it."""

    name: str
    version: str | None
    distribution: str | None
    enabled: bool
    hooks: tuple[str, ...]


class PluginHost:
    """The loaded plug-ins. The composition root makes one host for the server.

    Plug-ins are called one by one, in the order in which `gql-server plugins` lists them: folder by folder, the
    built-in folder first, then installed distributions; by name within each.

    The methods call hooks in the caller's thread and wait for them. A server uses `calls`, which calls them in
    threads of their own.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        disabled: Iterable[str] = (),
        given: Mapping[str, object] | None = None,
        hook_seconds: float = defaults.HOOK_SECONDS,
    ) -> None:
        """Load the plug-ins of the folders, of installed distributions, and the `given` objects, by name.

        A disabled plug-in is listed, but its code is not imported. `hook_seconds`: see `HookCalls`.
        Raises PluginError.
        """
        self._manager = pluggy.PluginManager(spec.PROJECT)
        self._manager.add_hookspecs(spec)
        self._listed: list[LoadedPlugin] = []
        self._hooks: dict[str, dict[str, pluggy.HookImpl]] = {hook: {} for hook in _HOOKS}
        self._built_in: set[str] = set()
        disabled_names = set(disabled)
        objects = [
            FoundPlugin(name, None, None, partial(_identity, plugin))
            for name, plugin in (given or {}).items()
        ]
        for found in [*find_plugins(folders), *objects]:
            self._register(found, enabled=found.name not in disabled_names)
        if unknown := disabled_names - {plugin.name for plugin in self._listed}:
            raise PluginError(min(unknown), "it is disabled in the settings, but there is no such plug-in.")
        self.calls = HookCalls(self, hook_seconds)
        self.reasons = self._reasons()
        self.modes = self._modes()
        self.field_plugins: dict[str, str] = {}  # by the name of the filter field
        self.fields = self._fields()

    @property
    def plugins(self) -> Sequence[LoadedPlugin]:
        return tuple(self._listed)

    def rules(self, request: RuleRequest, current: CurrentPlugin | None = None) -> list[OwnedRule]:
        """Return the rules for a request, in the order of the plug-ins. Raises PluginError."""
        seen: set[str] = set()
        known = {reason.code for reason in self.reasons}
        owned = []
        for plugin, rule in self._collect("eligibility_rules", Rule, current, request=request):
            owned_rule = OwnedRule(rule, plugin, plugin in self._built_in)
            _require_new(seen, owned_rule.full_name, plugin, "rule")
            if unknown := (rule.reasons or frozenset()) - known:
                problem = (
                    f"the rule {rule.name!r} is for the reason {min(unknown)!r}, which no plug-in gives."
                )
                raise PluginError(plugin, f"{problem} There are {', '.join(sorted(known)) or 'none'}.")
            owned.append(owned_rule)
        return owned

    def population(self, mode: str, scope: BatchScope, current: CurrentPlugin | None = None) -> Population:
        """Return the people of one of `modes`. Raises PluginError where its plug-in gives none."""
        plugin = self.modes[mode].plugin
        result = self._call("select_population", plugin, current, mode=mode, scope=scope)
        if not isinstance(result, Population):
            raise PluginError(plugin, f"it lists the mode {mode!r} but gives no `Population` for it.")
        _require_valid(plugin, "select_population", result)
        return result

    def plugins_with(self, hook: str) -> Sequence[str]:
        """Return the names of the plug-ins that implement a hook, in their order."""
        return tuple(self._hooks[hook])

    def are_built_in(self, plugins: Iterable[str]) -> bool:
        """Return whether all of these plug-ins are part of the product, whose tests vouch that no hook waits."""
        return self._built_in.issuperset(plugins)

    async def notify(
        self, plugin: str, hook: str, current: CurrentPlugin | None = None, /, **args: object
    ) -> None:
        """Call a listener of one plug-in, which may be a coroutine function. Raises PluginError."""
        result = self._call(hook, plugin, current, **args)
        if inspect.isawaitable(result):
            try:
                await result
            except BaseException as error:
                raise _hook_error(plugin, hook, error) from error

    def _register(self, found: FoundPlugin, *, enabled: bool) -> None:
        if any(found.name == other.name for other in self._listed):
            raise PluginError(found.name, "two plug-ins have this name. Rename or remove one.")
        hooks = self._load(found) if enabled else ()
        self._listed.append(LoadedPlugin(found.name, found.version, found.distribution, enabled, hooks))

    def _load(self, found: FoundPlugin) -> tuple[str, ...]:
        """Load a plug-in and return the names of the hooks that it implements. Raises PluginError."""
        plugin = self._import(found)
        if found.built_in:
            self._built_in.add(found.name)
        hooks = set()
        for caller in self._manager.get_hookcallers(plugin) or []:
            for implementation in caller.get_hookimpls():
                if implementation.plugin is not plugin:
                    continue
                if wrong := _hook_problem(caller.name, implementation):
                    raise PluginError(found.name, f"{implementation.function.__name__} {wrong}")
                self._hooks[caller.name][found.name] = implementation
                hooks.add(caller.name)
        if unmarked := [name for name in _HOOKS - hooks if inspect.isfunction(getattr(plugin, name, None))]:
            raise PluginError(found.name, f"{min(unmarked)} is not marked with `hookimpl`.")
        if not hooks:
            raise PluginError(found.name, "it implements no hook. Mark its functions with `hookimpl`.")
        return tuple(sorted(hooks))

    def _import(self, found: FoundPlugin) -> object:
        """Import a plug-in and register it with pluggy, which compares its hooks with `spec`. Raises PluginError."""
        try:
            plugin: object = found.load()
            self._manager.register(plugin, name=found.name)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(found.name, f"a hook does not fit its specification: {error}") from error
        except (Exception, SystemExit) as error:
            raise PluginError(found.name, f"it cannot be loaded: {type(error).__name__}: {error}") from error
        return plugin

    def _call(self, hook: str, plugin: str, current: CurrentPlugin | None = None, **args: object) -> Any:
        """Call a hook of one plug-in and return its result as it is. Raises PluginError."""
        if current is not None:
            current.set(plugin)
        implementation = self._hooks[hook][plugin]
        try:
            return implementation.function(*(args[name] for name in implementation.argnames))
        except BaseException as error:
            raise _hook_error(plugin, hook, error) from error

    def _collect(
        self, hook: str, kind: type[T], current: CurrentPlugin | None = None, **args: object
    ) -> list[tuple[str, T]]:
        """Call a hook of every plug-in and return its values, each with its plug-in. Raises PluginError."""
        collected: list[tuple[str, T]] = []
        for plugin in self._hooks[hook]:
            for value in _as_list(plugin, hook, self._call(hook, plugin, current, **args)):
                if not isinstance(value, kind):
                    problem = f"{hook} must give {kind.__name__} values, not {type(value).__name__}."
                    raise PluginError(plugin, problem)
                _require_valid(plugin, hook, value)
                collected.append((plugin, value))
        return collected

    def _reasons(self) -> list[OwnedReason]:
        seen: set[str] = set()
        reasons = []
        for plugin, reason in self._collect("contact_reasons", ContactReason):
            _require_new(seen, reason.code, plugin, "reason")
            if len(seen) > MAX_REASONS:
                raise PluginError(plugin, f"there are more than {MAX_REASONS} contact reasons with its own.")
            reasons.append(OwnedReason(reason.code, reason.label, reason.description, plugin))
        return reasons

    def _modes(self) -> dict[str, OwnedMode]:
        modes: dict[str, OwnedMode] = {}
        for plugin, mode in self._collect("batch_modes", BatchMode):
            _require_new(set(modes), mode.code, plugin, "mode")
            if plugin not in self._hooks["select_population"]:
                problem = (
                    f"it lists the mode {mode.code!r} but has no `select_population` to select its people."
                )
                raise PluginError(plugin, problem)
            modes[mode.code] = OwnedMode(mode, plugin)
        return modes

    def _fields(self) -> dict[FilterKind, dict[str, FilterField]]:
        seen: set[str] = set()
        fields: dict[FilterKind, dict[str, FilterField]] = {kind: {} for kind in FilterKind}
        for plugin, field in self._collect("filter_fields", FilterField):
            _require_new(seen, field.name, plugin, "filter field")
            self.field_plugins[field.name] = plugin
            for kind in field.kinds:
                fields[kind][field.name] = field
        return fields


def _is_generator(implementation: pluggy.HookImpl) -> bool:
    return inspect.isgeneratorfunction(implementation.function)


def _require_new(seen: set[str], name: str, plugin: str, what: str) -> None:
    """Add a name to those seen. Raises PluginError where another plug-in, or the same, has given it before."""
    if name in seen:
        raise PluginError(plugin, f"the {what} {name!r} is given twice. Every {what} has one plug-in.")
    seen.add(name)


def _identity(plugin: object) -> object:
    return plugin


def _as_list(plugin: str, hook: str, result: object) -> list[object]:
    if not isinstance(result, Iterable) or isinstance(result, str | bytes | Mapping):
        raise PluginError(plugin, f"{hook} must give a list, not {type(result).__name__}.")
    try:
        return list(result)
    except BaseException as error:
        raise _hook_error(plugin, hook, error) from error


def _hook_error(plugin: str, hook: str, error: BaseException) -> PluginError:
    return PluginError(plugin, f"{hook} failed: {type(error).__name__}.")


def _require_valid(plugin: str, hook: str, value: object) -> None:
    if wrong := value_problem(value):
        raise PluginError(plugin, f"{hook} gives {wrong}.")


def _hook_problem(hook: str, implementation: pluggy.HookImpl) -> str | None:
    """Return why a hook that pluggy accepts would not do what its author means, or None."""
    if implementation.wrapper or implementation.hookwrapper:
        return "is a wrapper, and there is nothing to wrap: a plug-in speaks for itself alone."
    if implementation.tryfirst or implementation.trylast:
        return "asks for a place in the order, which is that of the plug-ins' names."
    if implementation.optionalhook:
        return "is an optional hook, which would hide a misspelt name."
    if inspect.iscoroutinefunction(implementation.function) and hook not in LISTENERS:
        return "is a coroutine. Hooks that answer are plain functions; put what needs I/O into the value."
    if inspect.isasyncgenfunction(implementation.function) or (
        hook in LISTENERS and _is_generator(implementation)
    ):
        return "is a generator, so nothing in it would be run. Leave out `yield`."
    if implementation.kwargnames:
        return f"has a default for {implementation.kwargnames[0]!r}, so it would never be given it."
    return None
