"""The pages tell the truth about the tree: what they name exists, and they lead a newcomer to it."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from gql_server.db.statements import statement
from gql_server.hooks.host import PluginHost
from gql_server.settings import unknown_variables

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        *(ROOT / ".github").glob("*.md"),
        *(
            path
            for folder in ("gql_server", "plugins", "sql", "tests")
            for path in (ROOT / folder).rglob("*.md")
        ),
    ]
)
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
INVENTED = {"work_phones.py", "my_plugins/no_work_phones.py", "gql_server.activity", "gql_server.plugins"}
"""Names in pages that look like paths or modules and are none: examples, a logger, a group of entry points."""

_SUFFIX = re.compile(r"\.(graphql|md|py|sql|toml|txt|ya?ml)$")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+)`")
_MODULE = re.compile(r"(?:gql_server|plugins|tests)(?:\.[A-Za-z_]+)+")
_QUESTION = re.compile(r"^- \*\*(.+?\?)\*\*(.*?)(?=^- |^#|\Z)", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """Return the text of a page without its blocks of code, whose names are those of examples."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> Iterator[Path]:
    """Yield the files and folders that a page links to."""
    for target in _LINK.findall(prose(page)):
        if not re.match(r"[a-z]+:|#", target):
            yield (page.parent / target.partition("#")[0]).resolve()


def path_spans(page: Path) -> Iterator[str]:
    """Yield what a page names as paths: text in backticks that ends like a file or begins with a folder of ours."""
    beginnings = {path.name for base in (ROOT, page.parent) for path in base.iterdir() if path.is_dir()}
    for span in _SPAN.findall(prose(page)):
        if re.fullmatch(r"[\w./*-]+", span) and not span.startswith("/") and span not in INVENTED:
            begins = "/" in span and span.partition("/")[0] in beginnings
            if begins or (_SUFFIX.search(span) and not span.startswith(".")):
                yield span


def diagram_paths(page: Path) -> Iterator[str]:
    """Yield the files that the diagrams of a page name."""
    for diagram in re.findall(
        r"^```text$(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        yield from re.findall(r"[\w./*-]+\.(?:py|sql|md)\b", diagram)


def targets(page: Path, span: str) -> set[Path]:
    """Return what a path in a page may mean: from the root, from the page's folder, or from its parent.

    A file of `sql/` may be named without its suffix, as code names it.
    """
    patterns = (span, f"{span}.sql")
    bases = (ROOT, page.parent, page.parent.parent)
    return {found.resolve() for base in bases for pattern in patterns for found in base.glob(pattern)}


def modules(page: Path) -> set[str]:
    """Return the modules of ours that a page names, or what it names in them."""
    return set(_MODULE.findall(prose(page))) - INVENTED


def module_files(module: str) -> list[Path]:
    """Return the file or folder of a module, or that of the module that holds what is named."""
    file = ROOT.joinpath(*module.split("."))
    candidates = (file, file.with_suffix(".py"), file.parent.with_suffix(".py"), file.parent / "__init__.py")
    return [path for path in candidates if path.exists()]


def names_a_statement(span: str) -> bool:
    """Return whether a path is the name of a statement, such as `sql/batch/claim` or one of several in a file."""
    try:
        return bool(statement(span.removeprefix("sql/").removesuffix(".sql")))
    except (FileNotFoundError, KeyError, ValueError):
        return False


def leads_to(page: Path, target: Path) -> bool:
    """Return whether a page links to a file or folder, or names its path or its module."""
    named = {*links(page), *(found for span in path_spans(page) for found in targets(page, span))}
    return target in named | {file.resolve() for module in modules(page) for file in module_files(module)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    """Every link, every path and every module of ours that a page names is there."""
    missing = [str(target) for target in links(page) if not target.exists()]
    named = [*path_spans(page), *diagram_paths(page)]
    missing += [span for span in named if not targets(page, span) and not names_a_statement(span)]
    missing += [module for module in modules(page) if not module_files(module)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_settings_that_a_page_names_exist(page: Path) -> None:
    """Whoever copies a setting's name from a page does not set something that nobody reads."""
    named = set(re.findall(r"\bGQL_SERVER_[A-Z_]+[A-Z]\b", page.read_text(encoding="utf-8")))
    assert unknown_variables(dict.fromkeys(named, "")) == []


def test_the_table_of_the_plugins_is_complete(host: PluginHost) -> None:
    """Each built-in plug-in has a row with the hooks that it implements, and nothing else has one."""
    rows = re.findall(
        r"^\| \[(\w+)\]\([^)]*\) \| (.*?) \|", prose(ROOT / "plugins" / "README.md"), re.MULTILINE
    )
    table = {name: sorted(_SPAN.findall(hooks)) for name, hooks in rows}
    assert table == {
        plugin.name: sorted(plugin.hooks) for plugin in host.plugins if plugin.distribution is None
    }


def test_every_folder_explains_itself() -> None:
    """The front page leads to the page of every folder, and the map of the package to that of each part of it."""
    folders = [
        folder
        for folder in ("gql_server", "plugins", "sql", "tests")
        if (ROOT / folder / "README.md").exists()
    ]
    assert [f for f in folders if not leads_to(ROOT / "README.md", ROOT / f / "README.md")] == []
    parts = sorted(ROOT.glob("gql_server/*/README.md"))
    assert [p.parent.name for p in parts if not leads_to(ROOT / "gql_server" / "README.md", p)] == []
    own = sorted(ROOT.glob("plugins/*/README.md"))
    assert [p.parent.name for p in own if not leads_to(ROOT / "plugins" / "README.md", p)] == []


QUESTIONS = dict(_QUESTION.findall(prose(CONTRIBUTING).partition("## Where is")[2]))


def test_there_are_at_least_ten_questions() -> None:
    """The list of a newcomer's questions is not lost by a change of its form."""
    assert len(QUESTIONS) >= 10


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered_in_three_steps(question: str) -> None:
    """README, the page of a folder, the file: each step exists, and the one before leads to it."""
    answer = QUESTIONS[question].partition(":")[0]
    steps = [(CONTRIBUTING.parent / target).resolve() for target in _LINK.findall(answer)]
    assert 2 <= len(steps) <= 3
    assert steps[0] == ROOT / "README.md"
    assert [str(step) for step in steps if not step.exists()] == []
    lost = [
        f"{page} does not lead to {target}" for page, target in pairwise(steps) if not leads_to(page, target)
    ]
    assert lost == []
