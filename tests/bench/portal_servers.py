"""The two servers that the product is compared with: `python -m tests.bench.portal_servers KIND DSN PORT`.

bare: aiohttp and asyncpg, and the very statement that the product compiles, with no GraphQL in between.
dataloaders: Strawberry as its documentation shows it, with a DataLoader for each kind of row.
"""

import asyncio
import os
import sys
from typing import Annotated, Any

import orjson
import strawberry
import uvloop
from aiohttp import web
from strawberry.aiohttp.views import GraphQLView
from strawberry.dataloader import DataLoader

from gql_server.db.pool import Pool, open_pool

Info = strawberry.Info[dict[str, Any], None]
CHANNELS = [
    ("HOME_PHONE", "VOICE"), ("HOME_PHONE", "TEXT"), ("WORK_PHONE", "VOICE"), ("WORK_PHONE", "TEXT"),
    ("CELL_PHONE", "VOICE"), ("CELL_PHONE", "TEXT"), ("EMAIL", "EMAIL"), ("SECONDARY_EMAIL", "EMAIL"),
]  # fmt: skip


def bare_app(pool: Pool, statement: str, names: list[str], fixed: dict[str, Any]) -> web.Application:
    async def graphql(request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        values = {**fixed, "id": int(body["variables"]["id"].removeprefix("person_"))}
        async with pool.acquire() as conn:
            answer = await conn.fetchval(statement, *(values[name] for name in names))
        return web.Response(body=answer, content_type="application/json")

    app = web.Application()
    app.router.add_post("/graphql", graphql)
    return app


@strawberry.type
class ChannelPreference:
    contact_point: str
    method: str
    value: str | None
    on: list[str]
    chosen: list[str]


@strawberry.type
class Person:
    key: strawberry.Private[int]
    first_name: str
    last_name: str

    @strawberry.field
    async def preferences(self, info: Info) -> list[ChannelPreference]:
        return await info.context["preferences"].load(self.key)

    @strawberry.field
    async def households(self, info: Info) -> list[Annotated["Membership", strawberry.lazy(__name__)]]:
        return await info.context["memberships_of_person"].load(self.key)


@strawberry.type
class Household:
    key: strawberry.Private[int]
    name: str
    phone: str | None

    @strawberry.field
    async def preferences(self, info: Info) -> list[ChannelPreference]:
        return await info.context["household_preferences"].load(self.key)

    @strawberry.field
    async def members(self, info: Info) -> list[Annotated["Membership", strawberry.lazy(__name__)]]:
        return await info.context["memberships_of_household"].load(self.key)


@strawberry.type
class Membership:
    person_key: strawberry.Private[int]
    household_key: strawberry.Private[int]

    @strawberry.field
    async def person(self, info: Info) -> Person:
        return await info.context["people"].load(self.person_key)

    @strawberry.field
    async def household(self, info: Info) -> Household:
        return await info.context["households"].load(self.household_key)


@strawberry.type
class Query:
    @strawberry.field
    async def person(self, info: Info, id: strawberry.ID) -> Person | None:
        return await info.context["people"].load(int(id.removeprefix("person_")))


class Loaders:
    """One DataLoader a kind of row; made for each request, as they keep what they loaded."""

    def __init__(self, pool: Pool, district: int, bits: dict[str, int]) -> None:
        self.pool, self.district, self.bits = pool, district, bits

    def context(self) -> dict[str, Any]:
        loaders = (
            self.people, self.households, self.memberships_of_person, self.memberships_of_household,
            self.preferences, self.household_preferences,
        )  # fmt: skip
        return {load.__name__: DataLoader(load_fn=load) for load in loaders}

    async def rows(self, sql: str, keys: list[int]) -> list[Any]:
        async with self.pool.acquire() as conn:
            return list(await conn.fetch(sql, self.district, keys))

    def codes(self, mask: int | None) -> list[str]:
        return [code for code, bit in self.bits.items() if (mask or 0) >> bit & 1]

    async def people(self, keys: list[int]) -> list[Any]:
        rows = await self.rows(
            "select person_id, first_name, last_name from person where district_id = $1 and person_id = any($2)",
            keys,
        )
        found = {r["person_id"]: Person(key=r[0], first_name=r[1], last_name=r[2]) for r in rows}
        return [found.get(key) for key in keys]

    async def households(self, keys: list[int]) -> list[Any]:
        rows = await self.rows(
            "select household_id, name, phone from household where district_id = $1 and household_id = any($2)",
            keys,
        )
        found = {r["household_id"]: Household(key=r[0], name=r[1], phone=r[2]) for r in rows}
        return [found.get(key) for key in keys]

    async def memberships(self, column: str, keys: list[int]) -> list[Any]:
        rows = await self.rows(
            f"select {column}, person_id, household_id from household_member where district_id = $1"
            f" and {column} = any($2) and current_date between coalesce(start_date, '-infinity')"
            " and coalesce(end_date, 'infinity') order by household_member_id",
            keys,
        )
        found: dict[int, list[Membership]] = {key: [] for key in keys}
        for r in rows:
            found[r[0]].append(Membership(person_key=r[1], household_key=r[2]))
        return [found[key] for key in keys]

    async def memberships_of_person(self, keys: list[int]) -> list[Any]:
        return await self.memberships("person_id", keys)

    async def memberships_of_household(self, keys: list[int]) -> list[Any]:
        return await self.memberships("household_id", keys)

    async def preferences(self, keys: list[int]) -> list[Any]:
        values = await self.rows(
            "select person_id, kind, value from contact_point where district_id = $1 and person_id = any($2)",
            keys,
        )
        masks = await self.rows(
            "select person_id, contact_point, method, reasons_on, reasons_chosen from preference"
            " where district_id = $1 and person_id = any($2)",
            keys,
        )
        value = {(r[0], r[1]): r[2] for r in values}
        mask = {(r[0], r[1], r[2]): (r[3], r[4]) for r in masks}
        return [
            [
                ChannelPreference(
                    contact_point=kind, method=method, value=value.get((key, kind)),
                    on=self.codes(mask.get((key, kind, method), (0, 0))[0]),
                    chosen=self.codes(mask.get((key, kind, method), (0, 0))[1]),
                )
                for kind, method in CHANNELS
            ]
            for key in keys
        ]  # fmt: skip

    async def household_preferences(self, keys: list[int]) -> list[Any]:
        rows = await self.rows(
            "select household_id, method, reasons_on, reasons_chosen from household_preference"
            " where district_id = $1 and household_id = any($2)",
            keys,
        )
        mask = {(r[0], r[1]): (r[2], r[3]) for r in rows}
        return [
            [
                ChannelPreference(
                    contact_point="HOUSEHOLD_PHONE", method=method, value=None,
                    on=self.codes(mask.get((key, method), (0, 0))[0]),
                    chosen=self.codes(mask.get((key, method), (0, 0))[1]),
                )
                for method in ("VOICE", "TEXT")
            ]
            for key in keys
        ]  # fmt: skip


def dataloader_app(pool: Pool, district: int, bits: dict[str, int]) -> web.Application:
    loaders = Loaders(pool, district, bits)

    class View(GraphQLView):  # type: ignore[type-arg]
        async def get_context(self, request: Any, response: Any) -> Any:
            return loaders.context()

    app = web.Application()
    app.router.add_route("*", "/graphql", View(schema=strawberry.Schema(query=Query)))
    return app


async def main(kind: str, dsn: str, port: int) -> None:
    given = orjson.loads(os.environ["BENCH_GIVEN"])
    pool = await open_pool(dsn)
    if kind == "bare":
        from datetime import date

        fixed = {**given["fixed"], "today": date.today()}
        app = bare_app(pool, given["statement"], given["names"], fixed)
    else:
        app = dataloader_app(pool, given["fixed"]["district_id"], given["bits"])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
