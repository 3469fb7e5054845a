"""`python -m tests.bench.writes`: single writes over HTTP against the bare transaction of the same rows.

Administrators set three preferences of one person, two of the cell phone and one of the email, each of which really
changes: 16 connections, first all in one district, then over ten. The bare transaction is what a careful hand would
type for the same rows, on 16 connections of the same driver: begin; select for update; update; take the district's
revision; insert the change set; insert the changes; commit. It asks no rules, reads no reasons and answers nothing.
Beside the rates stand the milliseconds of processor time that one write takes of the server, of PostgreSQL, and of
this process, which sends the requests and makes the bare transactions.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg
import orjson
import uvloop

from gql_server.api.auth import Tokens
from gql_server.db.embedded import embedded_postgres
from gql_server.db.migrations import migrate
from gql_server.db.pool import connect
from gql_server.db.statements import resource_folder
from gql_server.domain.viewer import Role
from gql_server.hooks.host import PluginHost
from gql_server.services.sample import make_sample
from tests.bench.live import WRITE
from tests.bench.load import fetch_once, http_request, is_good, run_load
from tests.bench.measure import (
    ROUNDS,
    Results,
    postmaster,
    print_tables,
    results_table,
    take_turns,
    versions,
)
from tests.bench.servers import KEY, STIRRED, gql_server, wait_for

CONNECTIONS = 16
DISTRICTS = [f"bench{number}" for number in range(10)]
CHANNELS = (("CELL_PHONE", "VOICE", ("GENERAL", "ATTENDANCE")), ("EMAIL", "EMAIL", ("GENERAL",)))
PEOPLE = """
select p.person_id, p.district_id, d.code from person p join district d using (district_id)
where exists (select from relationship r where r.contact_id = p.person_id and r.messenger and r.end_date is null)
  and (select count(*) from preference x where x.person_id = p.person_id
    and (x.contact_point, x.method) in (('CELL_PHONE', 'VOICE'), ('EMAIL', 'EMAIL'))) = 2
  and not exists (select from opt_out o join contact_point c on c.value = o.address where c.person_id = p.person_id)
  and not exists (select from relationship r where r.contact_id = p.person_id and r.no_contact)
order by hashint8extended(p.person_id, 1)
"""
# The same rows as the product's write: both channels of the person, the district, a change set and its changes.
LOCK = """
select reasons_on, reasons_chosen from preference
where district_id = $1 and person_id = $2 and (contact_point, method) in (('CELL_PHONE', 'VOICE'), ('EMAIL', 'EMAIL'))
order by contact_point, method for update
"""
UPDATE = """
update preference set reasons_on = reasons_on # case contact_point when 'EMAIL' then 16 else 18 end
where district_id = $1 and person_id = $2 and (contact_point, method) in (('CELL_PHONE', 'VOICE'), ('EMAIL', 'EMAIL'))
"""
TAKE = "update district set revision = revision + 1 where district_id = $1 returning revision"
CHANGE_SET = (
    "insert into change_set (district_id, revision, source, actor) values ($1, $2, 'ADMIN', 'ADMIN:bare')"
)
CHANGES = """
insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids, turned_on,
  reasons, lowest_id, highest_id)
values
  ($1, $2, 'PERSON', bucket_of($3), 'PREFERENCES', 'CELL_PHONE', 'VOICE', array[$3::bigint], '{18}', 18, $3, $3),
  ($1, $2, 'PERSON', bucket_of($3), 'PREFERENCES', 'EMAIL', 'EMAIL', array[$3::bigint], '{16}', 16, $3, $3)
"""

REVISIONS = "select sum(revision)::bigint from district"

Person = tuple[int, int, str]
"""A person's id, their district's id, and its code."""
Contestant = Callable[[float], Awaitable[int]]
"""Writes for so many seconds, and returns the number of writes."""


async def make(dsn: str, students: int) -> list[Person]:
    """Make ten districts, and return people of all of them, in turns, whose preferences can be set."""
    host = PluginHost([resource_folder("plugins")])
    async with connect(dsn) as conn:
        await migrate(conn)
        for seed, code in enumerate(DISTRICTS):
            await make_sample(conn, host, code=code, students=students, seed=seed)
        await conn.execute("update preference set reasons_on = 0, reasons_chosen = 0")
        people = [tuple(row.values()) for row in await conn.fetch(PEOPLE)]
    by_district = [[person for person in people if person[2] == code] for code in DISTRICTS]
    return [person for turn in zip(*by_district, strict=False) for person in turn]


def write_requests(port: int, people: Sequence[Person]) -> list[bytes]:
    """Return a request for each person that turns the cells on, then one for each that turns them off."""
    tokens = {code: Tokens(KEY).issue(code, Role.ADMIN, None, timedelta(hours=6)) for code in DISTRICTS}
    requests = []
    for on in (True, False):
        cells = [
            {"contactPoint": point, "method": method, "reason": reason, "on": on}
            for point, method, reasons in CHANNELS
            for reason in reasons
        ]
        for number, _, code in people:
            variables = {"input": {"personId": f"person_{number}", "cells": cells}}
            body = orjson.dumps({"query": WRITE, "variables": variables})
            requests.append(http_request(port, "/graphql", body, {"Authorization": f"Bearer {tokens[code]}"}))
    return requests


def over_http(port: int, people: Sequence[Person]) -> Contestant:
    """Return a contestant that writes over HTTP. Each turn goes on where the last one ended.

    Raises RuntimeError if there are so few people that one could be turned on and off at the same time.
    """
    if len(people) < 2 * CONNECTIONS:
        raise RuntimeError(f"only {len(people)} people can be written to: more students are needed")
    requests, done = write_requests(port, people), 0

    async def turn(seconds: float) -> int:
        nonlocal done
        at = done % len(requests)
        load = await run_load(port, requests[at:] + requests[:at], connections=CONNECTIONS, seconds=seconds)
        done += load.requests
        return load.requests

    return turn


def bare(connections: Sequence[asyncpg.Connection], people: Sequence[Person]) -> Contestant:
    """Return a contestant that makes the bare transaction, on all connections at once."""

    async def turn(seconds: float) -> int:
        end, count = time.perf_counter() + seconds, 0

        async def worker(conn: asyncpg.Connection, at: int) -> None:
            nonlocal count
            while time.perf_counter() < end:
                person, district, _ = people[at % len(people)]
                await bare_transaction(conn, district, person)
                at += len(connections)
                count += 1

        await asyncio.gather(*(worker(conn, at) for at, conn in enumerate(connections)))
        return count

    return turn


async def bare_transaction(conn: asyncpg.Connection, district: int, person: int) -> None:
    async with conn.transaction():
        await conn.fetch(LOCK, district, person)
        await conn.execute(UPDATE, district, person)
        revision = await conn.fetchval(TAKE, district)
        await conn.execute(CHANGE_SET, district, revision)
        await conn.execute(CHANGES, district, revision, person)


async def require_equal_work(conn: asyncpg.Connection, port: int, person: Person) -> None:
    """Raise RuntimeError where a write by HTTP and the bare transaction do not write equally many rows."""
    logged = []
    number, district, _ = person
    for request in (*write_requests(port, [person]), None):
        if request is None:
            await bare_transaction(conn, district, number)
        elif not is_good(answer := await fetch_once(port, request)):
            raise RuntimeError(answer.decode())
        logged.append(
            await conn.fetchrow(
                "select count(*), count(distinct c.revision) from change c join district d using (district_id)"
                " where d.district_id = $1 and c.revision = d.revision and c.subject_ids = array[$2::bigint]",
                district,
                number,
            )
        )
    if set(logged) != {(2, 1)}:
        raise RuntimeError(f"the writes do not log the same: {logged}")


async def measure(
    dsn: str, port: int, server: int, people: Sequence[Person], options: argparse.Namespace
) -> Results:
    """Let all take turns, after a warm-up of each."""
    await wait_for(port)
    connections = [await asyncpg.connect(dsn, server_settings={"jit": "off"}) for _ in range(CONNECTIONS)]
    await require_equal_work(connections[0], port, people[0])

    # Each has people of its own, who are as it left them.
    quarter = len(people) // 4
    mine = [people[n * quarter : (n + 1) * quarter] for n in range(4)]
    groups = {"one district": lambda person: person[2] == DISTRICTS[0], "ten districts": lambda person: True}

    contestants: dict[str, Contestant] = {}
    for where, belongs in groups.items():
        contestants[f"bare, {where}"] = bare(connections, list(filter(belongs, mine.pop())))
        contestants[f"gql-server, {where}"] = over_http(port, list(filter(belongs, mine.pop())))
    taken = await connections[0].fetchval(REVISIONS)

    async def settle() -> None:
        for table in STIRRED:
            await connections[0].execute(f"vacuum analyze {table}")
        await connections[0].execute("checkpoint")

    warmed_up = [await turn(options.warm_up) for turn in contestants.values()]
    processes = {"server": server, "PostgreSQL": await postmaster(connections[0]), "client": os.getpid()}
    compared = {name: partial(turn, options.seconds) for name, turn in contestants.items()}
    results = await take_turns(compared, rounds=options.rounds, processes=processes, before=settle)
    writes = sum(warmed_up) + sum(turn.work for turns in results.turns.values() for turn in turns)
    taken = await connections[0].fetchval(REVISIONS) - taken
    # A write that is held up can be overtaken by the one that turns its cells back: then neither changes anything.
    if abs(taken - writes) > writes / 1_000:
        raise RuntimeError(
            f"{writes:,.0f} writes took {taken:,} revisions: not each of them changed something"
        )
    for conn in connections:
        await conn.close()
    return results


def print_report(results: Results, students: int) -> None:
    """Print rates, their ratio to the bare transaction, and processor time a write."""
    title = f"Single writes, {CONNECTIONS} connections, districts of {students:,} students"
    table = results_table(title, "writes/s", "of bare", "server", "PostgreSQL", "client")
    for name in results.turns:
        of_bare = results.rate(name) / results.rate(f"bare, {name.partition(', ')[2]}")
        server, postgresql, whole = (results.cpu(name, each) for each in ("server", "PostgreSQL", "client"))
        spent = (server, postgresql, whole - server)  # the server is a child of this process
        table.add_row(
            name, f"{results.rate(name):,.0f}", f"{of_bare:.2f}", *(f"{each:.2f}" for each in spent)
        )
    rounds = len(next(iter(results.turns.values())))
    print_tables(
        [
            table,
            "The last three: milliseconds of processor time a write.",
            f"Medians of {rounds} rounds. {versions('asyncpg', 'uvloop')}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=1_000, help="students of each district")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=4, help="length of a turn")
    parser.add_argument("--warm-up", type=float, default=2, help="seconds of each before the first round")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gql-server-bench-"))
        dsn = stack.enter_context(embedded_postgres(Path(folder), delete=True))
        people = uvloop.run(make(dsn, options.students))
        server = stack.enter_context(gql_server(dsn))
        results = uvloop.run(measure(dsn, server.port, server.pid, people, options))
    print_report(results, options.students)


if __name__ == "__main__":
    main()
