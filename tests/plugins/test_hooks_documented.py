"""A hook exists only with words, a page whose example runs, and a built-in plug-in that uses it."""

import inspect
import re
from pathlib import Path

import pytest

from gql_server.hooks import spec
from gql_server.hooks.host import PluginHost
from gql_server.hooks.testing import check_plugin, plugin_host

HOOKS = sorted(name for name, value in vars(spec).items() if hasattr(value, f"{spec.PROJECT}_spec"))
_PAGE = Path(spec.__file__).with_name("README.md").read_text(encoding="utf-8")
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
    """Each specification says what the hook returns or hears."""
    assert re.match(r"(Return|Hear) .+\.", inspect.getdoc(getattr(spec, hook)) or "")


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_of_a_hook_is_a_sound_plugin(hook: str, tmp_path: Path) -> None:
    """Each section's example loads beside the built-in plug-ins and gives only sound values."""
    (example,) = SECTIONS[hook]
    file = tmp_path / "example.py"
    file.write_text(example, encoding="utf-8")
    check_plugin(file)
    assert hook in plugin_host(file).plugins[-1].hooks


@pytest.mark.parametrize("hook", HOOKS)
def test_a_builtin_plugin_uses_the_hook(hook: str, host: PluginHost) -> None:
    """No hook is there on speculation: one of the built-in plug-ins implements it."""
    assert any(hook in plugin.hooks for plugin in host.plugins)


def test_every_builtin_plugin_has_a_page(builtin_plugins: Path, host: PluginHost) -> None:
    """Each built-in plug-in's folder says in a README what it is for."""
    for plugin in host.plugins:
        if plugin.distribution is None:
            page = (builtin_plugins / plugin.name / "README.md").read_text(encoding="utf-8")
            assert page.startswith(f"# {plugin.name}\n")
