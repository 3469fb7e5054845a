"""The kit for plug-in authors loads a plug-in as the server would and finds what would fail at run time."""

import sys
from pathlib import Path

import pytest

from gql_server.errors import PluginError
from gql_server.hooks.testing import plugin_host, validate_plugin

SOUND = """
from gql_server.hooks import ContactReason, hookimpl

@hookimpl
def contact_reasons():
    return [ContactReason("BUS_DELAY", "Bus delay", "A bus is late.")]
"""
FAULTS = {
    "rules fail in one context": """
from gql_server.hooks import Context, hookimpl

@hookimpl
def eligibility_rules(request):
    return [] if request.context is Context.BATCH else [request.mode.lower()]
""",
    "the population fails with a full scope": """
from gql_server.hooks import BatchMode, FilterKind, Population, Sql, hookimpl

@hookimpl
def batch_modes():
    return [BatchMode("MINE", "Mine", "Mine.", FilterKind.STUDENT)]

@hookimpl
def select_population(mode, scope):
    return Population(Sql("select 1" if scope.filter is None else "select :value"))
""",
    "the listener fails": """
from gql_server.hooks import hookimpl

@hookimpl
def run_finished(run):
    raise KeyError(run.run_id)
""",
}


def test_a_sound_plugin_passes_as_file_folder_and_module(tmp_path: Path) -> None:
    """A path to a module or a package, also as text, and an imported module are all accepted."""
    file, package = tmp_path / "bus.py", tmp_path / "bus_package"
    package.mkdir()
    for path in (file, package / "__init__.py"):
        path.write_text(SOUND, encoding="utf-8")
    for plugin in (file, str(file), package):
        validate_plugin(plugin)
    validate_plugin(sys.modules["gql_server_plugin_bus"])
    host = plugin_host(file)
    assert host.reasons[-1].plugin == "bus"
    assert len(host.plugins) > 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_loading_does_not_show_is_found(fault: str, tmp_path: Path) -> None:
    """Each hook is called in every way the server would call it, and the error names the plug-in."""
    file = tmp_path / "faulty.py"
    file.write_text(FAULTS[fault], encoding="utf-8")
    plugin_host(file)
    with pytest.raises(PluginError) as caught:
        validate_plugin(file)
    assert caught.value.plugin == "faulty"


STRICT = """
from gql_server.hooks import BatchMode, FilterKind, Population, Sql, hookimpl

@hookimpl
def batch_modes():
    refused = {"grades_allowed": False, "school_year_allowed": False}
    return [
        BatchMode("FILTERED", "Filtered", "Needs a filter.", FilterKind.CENSUS, filter_required=True, **refused),
        BatchMode("UNFILTERED", "Unfiltered", "May be without.", FilterKind.CENSUS, **refused),
    ]

@hookimpl
def select_population(mode, scope):
    assert scope.grades is None and scope.school_year is None
    assert mode != "FILTERED" or scope.filter is not None
    return Population(Sql("select 1 as person_id")) if mode in ("FILTERED", "UNFILTERED") else None
"""


def test_a_mode_is_asked_only_what_the_server_would_ask(tmp_path: Path) -> None:
    """A mode that requires a filter is never asked without one, and one that refuses grades or a school year is never
    asked with them (D12)."""
    file = tmp_path / "strict.py"
    file.write_text(STRICT, encoding="utf-8")
    validate_plugin(file)


def test_a_mode_is_asked_with_and_without_each_part_of_a_scope(tmp_path: Path) -> None:
    """A mode that takes everything is asked with nothing and with everything; one that requires a filter, with the
    filter alone and with everything (D12)."""
    file = tmp_path / "heard.py"
    file.write_text(
        STRICT.replace("False", "True").replace(
            "    assert scope.grades is None and scope.school_year is None\n",
            "    ASKED.append((mode, scope.filter is not None, scope.grades, scope.school_year))\n",
        )
        + "\nASKED = []\n",
        encoding="utf-8",
    )
    validate_plugin(file)
    asked = sys.modules["gql_server_plugin_heard"].ASKED
    everything = (True, ("09",), 2026)
    assert asked == [
        ("FILTERED", True, None, None),
        ("FILTERED", *everything),
        ("UNFILTERED", False, None, None),
        ("UNFILTERED", *everything),
    ]


def test_a_plugin_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    """An exception of the file becomes the error that the server would show at its start."""
    file = tmp_path / "broken.py"
    file.write_text("import no_such_module\n", encoding="utf-8")
    with pytest.raises(PluginError, match="'broken': it cannot be loaded"):
        plugin_host(file)
