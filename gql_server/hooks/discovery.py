"""Finds plug-ins in folders and in installed distributions. Nothing is imported before `FoundPlugin.load`."""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from gql_server.db.statements import resource_folder
from gql_server.errors import PluginError

ENTRY_POINTS = "gql_server.plugins"
_MODULE_PREFIX = "gql_server_plugin_"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class FoundPlugin:
    """A plug-in that was found and is not loaded yet.

    load: imports it and returns the module or object. built_in: whether it is part of the product.
    """

    name: str
    version: str | None
    distribution: str | None
    load: Callable[[], Any]
    built_in: bool = False


def find_plugins(folders: Iterable[Path]) -> list[FoundPlugin]:
    """Return the plug-ins of each folder, then those of installed distributions, by name within each.

    Each package and each module of a folder is a plug-in, except those whose names begin with `_` or `.`.
    Raises PluginError for a folder that does not exist and for an invalid name.
    """
    found = [plugin for folder in folders for plugin in sorted(_in_folder(folder), key=lambda f: f.name)]
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
        version, distribution = (point.dist.version, point.dist.name) if point.dist else (None, None)
        found.append(FoundPlugin(point.name, version, distribution, point.load))
    for plugin in found:
        if not _NAME.fullmatch(plugin.name):
            raise PluginError(
                plugin.name, "a name is letters, digits, `_` and `-`, a letter first. Rename it."
            )
    return found


def _in_folder(folder: Path) -> list[FoundPlugin]:
    if not folder.is_dir():
        raise PluginError(folder.name, f"there is no folder {folder}.")
    packages = [path / "__init__.py" for path in folder.iterdir() if (path / "__init__.py").is_file()]
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    built_in = folder.resolve() == resource_folder("plugins").resolve()
    found = [_found_at(path.parent.name, path, built_in) for path in packages] + [
        _found_at(path.stem, path, built_in) for path in modules
    ]
    return [plugin for plugin in found if not plugin.name.startswith(("_", "."))]


def _found_at(name: str, path: Path, built_in: bool) -> FoundPlugin:
    return FoundPlugin(name, None, None, lambda: load_file(name, path), built_in)


def load_file(name: str, path: Path) -> ModuleType:
    """Import a file under a module name of its own. The modules of a package import each other relatively."""
    module_name = _MODULE_PREFIX + name
    _forget(module_name)
    package = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(module_name, path, submodule_search_locations=package)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        _forget(module_name)
        raise
    return module


def _forget(module_name: str) -> None:
    """Remove a module and its submodules from sys.modules: another folder may have had a plug-in of the same name."""
    for name in [n for n in sys.modules if n == module_name or n.startswith(module_name + ".")]:
        del sys.modules[name]
