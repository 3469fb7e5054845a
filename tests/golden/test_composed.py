"""The statements that services compose for a write, a batch, its preview and its revert, kept as files.

Each file holds, in the order in which they run, the statements with slots that one operation fills: a change of a
statement or of a plug-in's fragment is seen in review, in every place that it gets to. To bless a change:
`pytest tests/golden --bless`, and look at the diff.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from gql_server.db import statements
from gql_server.db.pool import Pool
from gql_server.domain.channels import ContactPointKind, Method
from gql_server.domain.ids import IdKind, encode_id
from gql_server.domain.preferences import PreferenceCell
from gql_server.domain.sql import Sql
from gql_server.hooks.host import PluginHost
from gql_server.services.batch.worker import BatchWorker
from gql_server.services.preferences import PreferenceService
from gql_server.services.sample import make_sample
from tests.golden.test_golden import HERE, compare
from tests.support.batch import CELL, EMAIL, HOUSEHOLD, OFF, Batches, admin, cells, working
from tests.support.builder import DistrictBuilder
from tests.support.statements import TEXTS

Recorded = Callable[[str], AbstractContextManager[None]]
NAMED = (
    *cells(CELL, "EMERGENCY"),
    *cells(EMAIL, "GENERAL", to=OFF),
    *cells(HOUSEHOLD, "EMERGENCY"),
)
COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)
WHOLE = {text.strip().rstrip(";") for text in TEXTS.values()}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, bless: bool) -> Recorded:
    """Compares the composed statements that run in a block with the file of a name."""
    texts: dict[str, None] = {}  # a set that keeps its order
    bind = statements.bind

    def recording(sql: Sql, **args: object) -> tuple[str, list[object]]:
        if sql.text not in WHOLE and not sql.text.startswith("analyze"):
            texts[sql.text] = None
        return bind(sql, **args)

    @contextmanager
    def block(name: str) -> Iterator[None]:
        texts.clear()
        yield
        composed = "".join(f"{re.sub(COMMENT, '', text)};\n\n" for text in texts)
        compare(HERE / "composed" / f"{name}.sql", composed, bless)

    monkeypatch.setattr(statements, "bind", recording)
    return block


@pytest.fixture
async def batches(db: Pool, host: PluginHost, district: DistrictBuilder) -> AsyncIterator[Batches]:
    """A district of one student with a household, and a worker."""
    student = await district.student(await district.school(), cell_phone="1", email="s@x")
    await district.household(student, phone="2")
    async with working(BatchWorker(db, host, poll_seconds=0.05)) as worker:
        yield Batches(db, host, district, worker)


async def test_the_sql_of_a_batch(recorded: Recorded, batches: Batches) -> None:
    """A run is validated, planned and applied by these statements, and reverted by these (D11-D19, D29)."""
    with recorded("batch"):
        run = await batches.run(*NAMED)
    with recorded("batch_revert"):
        await batches.revert(run)


async def test_the_sql_of_a_preview(recorded: Recorded, batches: Batches) -> None:
    """A dry run is previewed by these statements, and applied later by these (D18, D20)."""
    with recorded("batch_preview"):
        run = await batches.run(*NAMED, dry_run=True)
    with recorded("batch_preview_applied"):
        await batches.apply(run)


async def test_the_sql_of_a_single_write(
    recorded: Recorded, db: Pool, host: PluginHost, district: DistrictBuilder
) -> None:
    """One person's, and one household's, preferences are written by these statements (D5, D22)."""
    person = await district.person(cell_phone="1")
    household = await district.household(person, phone="2")
    service, viewer = PreferenceService(db, host), admin(district)
    with recorded("write_person"):
        cell = PreferenceCell(ContactPointKind.CELL_PHONE, Method.TEXT, "GENERAL", True)
        await service.set_person(viewer, encode_id(IdKind.PERSON, person), [cell], if_revision=0)
    with recorded("write_household"):
        cell = PreferenceCell(ContactPointKind.HOUSEHOLD_PHONE, Method.VOICE, "GENERAL", True)
        await service.set_household(viewer, encode_id(IdKind.HOUSEHOLD, household), [cell])


async def test_the_sql_of_a_sample(recorded: Recorded, db: Pool, host: PluginHost) -> None:
    """The sample's preferences are logged by these statements, people's and households' (D28)."""
    async with db.transaction() as conn:
        with recorded("sample"):
            await make_sample(conn, host, code="oak", students=1, seed=1)
