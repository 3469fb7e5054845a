"""Every error code has a line in the table of codes that says what it means and what to do, and no other has one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import gql_server

_FOLDER = Path(gql_server.__file__).parent
_TABLE = _FOLDER / "api" / "README.md"
_CODE = re.compile(r"[A-Z]+(_[A-Z]+)*")
_TAKERS = {"UserError", "rejected", "BadBody", "_error_response", "graphql_error_entries"}
"""The functions that are called with a code among its first two arguments."""
# The commands' own words for what was typed reach nobody as codes.
_TREES = [
    ast.parse(file.read_text(encoding="utf-8"))
    for file in _FOLDER.rglob("*.py")
    if "cli" not in file.relative_to(_FOLDER).parts
]
_CONSTANTS = {
    target.id: node.value.value
    for tree in _TREES
    for node in tree.body
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    for target in node.targets
    if isinstance(target, ast.Name)
}


def _texts(nodes: list[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Tuple):
            yield from _texts(node.elts)
        text = node.value if isinstance(node, ast.Constant) else None
        text = _CONSTANTS.get(node.id) if isinstance(node, ast.Name) else text
        if isinstance(text, str):
            yield text


def _is_code(target: ast.expr) -> bool:
    names = target.elts if isinstance(target, ast.Tuple) else [target]
    return any(isinstance(name, ast.Name) and name.id.strip("_").lower() == "code" for name in names)


def _given(node: ast.AST) -> Iterator[str]:
    """Yield the texts that one node of a source file gives as a code."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _TAKERS:
        yield from _texts(node.args[:2])
    elif isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        yield from _texts(
            [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "code"]
        )
    elif isinstance(node, ast.Assign) and any(map(_is_code, node.targets)):
        yield from _texts([node.value])


def codes() -> set[str]:
    given = {text for tree in _TREES for node in ast.walk(tree) for text in _given(node)}
    return {text for text in given if _CODE.fullmatch(text)}


def test_the_table_has_every_code_and_no_other() -> None:
    """Whoever gets a code finds what it means and what to do; each row has both (protects callers)."""
    rows = [line.strip("| ").split(" | ") for line in _TABLE.read_text(encoding="utf-8").splitlines()]
    table = {row[0].strip("` "): row[1:] for row in rows if _CODE.fullmatch(row[0].strip("` "))}
    assert {"UNKNOWN_REASON", "NOBODY_SELECTED", "CELL_NOT_ENABLED", "TOO_LARGE", "INTERNAL"} <= codes()
    assert sorted(table) == sorted(codes())
    assert all(len(row) == 2 and all(len(words) > 10 for words in row) for row in table.values())
