"""PostGraphile as a contestant: found where it is installed, given views, and started."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import orjson

from gql_server.db.pool import connect
from tests.bench.servers import run_process

VARIABLE = "BENCH_POSTGRAPHILE"
"""Names the folder in which PostGraphile is installed."""
_HERE = Path(__file__).parent / "postgraphile"
_OLDEST_NODE = 22


@dataclass(frozen=True, slots=True)
class PostGraphile:
    """An installation, and the documents that ask it for what the product's documents ask for."""

    folder: Path
    node: str
    version: str
    node_version: str

    PORTAL: ClassVar[str] = """query Portal($id: BigInt!) {
      person: personByPersonId(personId: $id) {
        firstName
        lastName
        preferences: preferencesList { contactPoint method value on chosen }
        households: householdsList {
          household {
            name
            phone
            preferences: preferencesList { method on }
            members: membersList {
              person { firstName lastName preferences: preferencesList { contactPoint method value on } }
            }
          }
        }
      }
    }"""
    NODE: ClassVar[str] = """query Node($id: BigInt!) {
      node: personByPersonId(personId: $id) { id: rowId firstName lastName }
    }"""
    PAGE: ClassVar[str] = """query Page {
      people: allPeople(first: 100, orderBy: [LAST_NAME_ASC, FIRST_NAME_ASC, PERSON_ID_ASC]) {
        edges {
          node {
            id: rowId
            firstName
            lastName
            preferences: preferencesList { contactPoint method value on }
          }
        }
        pageInfo { hasNextPage }
      }
    }"""

    async def make_views(self, dsn: str) -> None:
        """Make the views that PostGraphile reads, for the only district of a database."""
        async with connect(dsn) as conn:
            rows = await conn.fetch("select code, bit from contact_reason order by bit")
            bits = {row["code"]: row["bit"] for row in rows}
            slots = {
                "{district_id}": str(await conn.fetchval("select district_id from district")),
                "{on}": _decoded("s.reasons_on", bits),
                "{chosen}": _decoded("s.reasons_chosen", bits),
            }
            text = (_HERE / "views.sql").read_text(encoding="utf-8")
            for slot, value in slots.items():
                text = text.replace(slot, value)
            await conn.execute(text)

    @contextmanager
    def process(self, dsn: str, port: int) -> Iterator["subprocess.Popen[str]"]:
        """Run the server until the end of the block."""
        command = [
            self.node,
            str(_HERE / "server.cjs"),
            str(self.folder),
            dsn.replace("postgres:@", "postgres@"),
        ]
        with run_process(
            [*command, str(port)], {"GRAPHILE_ENV": "production", "NODE_ENV": "production"}
        ) as child:
            yield child


def installed_postgraphile() -> PostGraphile | None:
    """Return the installation that the environment names; None where there is none, or Node is too old."""
    folder = Path(os.environ.get(VARIABLE, "")).resolve()  # Node looks for it from elsewhere
    package = folder / "node_modules" / "postgraphile" / "package.json"
    if VARIABLE not in os.environ or not package.is_file():
        return None
    own = folder / "node_modules" / ".bin" / "node"
    node = str(own) if own.exists() else "node"
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    if int(said.removeprefix("v").partition(".")[0]) < _OLDEST_NODE:
        return None
    return PostGraphile(folder, node, orjson.loads(package.read_bytes())["version"], said.removeprefix("v"))


def _decoded(mask: str, bits: Mapping[str, int]) -> str:
    """Return SQL for the codes in a mask. The codes are in the text, which is the fastest way."""
    codes = ", ".join(f"case when {mask} & {1 << bit} <> 0 then '{code}' end" for code, bit in bits.items())
    return f"array_remove(array[{codes}], null)"
