"""The SDL and the SQL of typical operations, kept as files: a change of either is seen in review.

To bless a change: `pytest tests/golden --bless`, and look at the diff.
"""

from pathlib import Path

import pytest

from gql_server.api.schema import build_schema, print_sdl
from gql_server.domain.viewer import Role
from tests.support.graph import compile_document

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OPERATIONS = sorted(path.stem for path in HERE.glob("*.graphql"))


def compare(path: Path, text: str, bless: bool) -> None:
    if bless:
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale. Bless it if the change is meant."


def test_the_exported_schema_is_up_to_date(bless: bool) -> None:
    """`schema.graphql` is what `gql-server export-schema` prints."""
    compare(ROOT / "schema.graphql", print_sdl(), bless)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("role", [Role.ADMIN, Role.GUARDIAN])
def test_the_sql_of_an_operation(name: str, role: Role, bless: bool) -> None:
    """An operation compiles, for a role, to the statement in the file."""
    text = (HERE / f"{name}.graphql").read_text(encoding="utf-8")
    given = {"id": "person_1", "search": "a", "after": "WyJhIiwgImIiLCAxXQ=="}
    compiled = compile_document(text, role, given)
    compare(HERE / f"{name}.{role.lower()}.sql", compiled.text + "\n", bless)


def test_everything_in_the_schema_is_described() -> None:
    """Every type, field, argument, input field and enum value has a description."""
    missing = []
    for name, type_ in build_schema().graphql.type_map.items():
        if name.startswith("__") or name in ("ID", "String", "Int", "Boolean", "Float"):
            continue
        parts = [(name, type_)]
        for field_name, field in getattr(type_, "fields", {}).items():
            parts.append((f"{name}.{field_name}", field))
            parts += [(f"{name}.{field_name}({a})", arg) for a, arg in getattr(field, "args", {}).items()]
        parts += [(f"{name}.{value}", v) for value, v in getattr(type_, "values", {}).items()]
        missing += [path for path, part in parts if not part.description]
    assert missing == []
