"""A hook exists only with words, a page whose example runs, and a built-in plug-in that uses it."""

import inspect
import re
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from gql_server.hooks import Cell, ContactPointKind, Method, Setting, spec
from gql_server.hooks.host import PluginHost
from gql_server.hooks.testing import plugin_host, validate_plugin
from tests.plugins.test_host import BATCH

HOOKS = sorted(name for name, value in vars(spec).items() if hasattr(value, f"{spec.PROJECT}_spec"))
_PAGE = Path(spec.__file__).with_name("README.md").read_text(encoding="utf-8")
_FIRST_RULE, _FIRST_CHECK = re.findall(r"^   ```python\n(.*?)^   ```", _PAGE, re.DOTALL | re.MULTILINE)
_FRONT_PAGE = Path(__file__).resolve().parents[2] / "README.md"
SECTIONS = {
    section.partition("\n")[0].strip(): re.findall(
        r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE
    )
    for section in _PAGE.split("\n## ")[1:]
}


def test_the_page_has_a_section_for_each_hook_and_no_other() -> None:
    """The page and the specification name the same hooks."""
    assert sorted(SECTIONS) == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_specified_in_words(hook: str) -> None:
    """Each specification says what the hook returns or receives."""
    assert re.match(r"(Return|Receive) .+\.", inspect.getdoc(getattr(spec, hook)) or "")


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_of_a_hook_is_a_sound_plugin(hook: str, tmp_path: Path) -> None:
    """Each section's example loads beside the built-in plug-ins and gives only sound values."""
    (example,) = SECTIONS[hook]
    file = tmp_path / "example.py"
    file.write_text(example, encoding="utf-8")
    validate_plugin(file)
    assert hook in plugin_host(file).plugins[-1].hooks


@pytest.mark.parametrize("hook", ["batch_modes", "select_population"])
def test_an_example_takes_no_part_of_a_scope_that_it_ignores(hook: str, tmp_path: Path) -> None:
    """A mode whose SELECT does not use the school year or the grades of its scope does not allow them (D12)."""
    (example,) = SECTIONS[hook]
    file = tmp_path / "example.py"
    file.write_text(example, encoding="utf-8")
    host = plugin_host(file)
    (mode,) = (owned.mode for owned in host.modes.values() if owned.plugin == "example")
    assert mode.school_year_allowed is ("scope.school_year" in example)
    assert mode.grades_allowed is ("scope.grades" in example)


def test_the_first_rule_and_its_check_are_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps to a first rule work as the page shows them."""
    monkeypatch.chdir(tmp_path)
    Path("my_plugins").mkdir()
    Path("my_plugins/no_work_phones.py").write_text(dedent(_FIRST_RULE), encoding="utf-8")
    exec(dedent(_FIRST_CHECK), {})
    rules = plugin_host("my_plugins/no_work_phones.py").rules(BATCH)
    assert rules[-1].full_name == "no_work_phones.no_work_phones"


def test_the_rule_of_the_front_page_is_sound(tmp_path: Path) -> None:
    """The rule that README.md shows is sound for every request, also for one that names allowed reasons alone."""
    (example,) = re.findall(
        r"^```python\n(.*?)^```", _FRONT_PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    file = tmp_path / "work_phones.py"
    file.write_text(example, encoding="utf-8")
    validate_plugin(file)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_builtin_plugin_uses_the_hook(hook: str, host: PluginHost) -> None:
    """No hook is there on speculation: one of the built-in plug-ins implements it."""
    assert any(hook in plugin.hooks for plugin in host.plugins)


def test_the_codes_of_the_builtin_rules_stay(builtin_plugins: Path, host: PluginHost) -> None:
    """Programs may rely on the codes of the built-in rules, and each stands in the page of its plug-in (D10)."""
    staff = Cell(ContactPointKind.EMAIL, Method.EMAIL, "STAFF", Setting.ON)
    rules = host.rules(replace(BATCH, cells=(staff,)))
    assert {rule.plugin: rule.rule.code for rule in rules} == {
        "no_contact": "NO_CONTACT",
        "on_record": "NO_VALUE",
        "opt_outs": "OPTED_OUT",
        "staff_reason": "NO_ASSIGNMENT",
    }
    for rule in rules:
        page = (builtin_plugins / rule.plugin / "README.md").read_text(encoding="utf-8")
        assert f"`{rule.rule.code}`" in page


def test_every_builtin_plugin_has_a_page(builtin_plugins: Path, host: PluginHost) -> None:
    """Each built-in plug-in's folder says in a README what it is for."""
    for plugin in host.plugins:
        if plugin.distribution is None:
            page = (builtin_plugins / plugin.name / "README.md").read_text(encoding="utf-8")
            assert page.startswith(f"# {plugin.name}\n")
