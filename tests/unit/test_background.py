"""New documents are worked on outside of the event loop, once each, and fairly."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from gql_server.domain.viewer import District, Role, Viewer
from gql_server.errors import Busy
from gql_server.reads.background import Background

PATIENCE = 20
MAPLE = Viewer(District(1, "maple", "UTC"), Role.ADMIN)
GUARDIAN = Viewer(MAPLE.district, Role.GUARDIAN, "parent-1")
BIRCH = Viewer(District(2, "birch", "UTC"), Role.ADMIN)


def nothing() -> None:
    """Find nothing."""


def blocked(until: threading.Event, done: list[str], name: str) -> Callable[[], str]:
    def make() -> str:
        assert until.wait(PATIENCE)
        done.append(name)
        return name

    return make


async def test_what_many_ask_for_at_once_is_made_once() -> None:
    """Twenty who ask for the same new document at the same time get one that was made once."""
    background, made = Background(), list[str]()

    def make() -> str:
        made.append("x")
        return "x"

    viewers = [Viewer(MAPLE.district, Role.GUARDIAN, f"parent-{n % 5}") for n in range(20)]
    asked = (background.once(viewer, "key", lambda: made[0] if made else None, make) for viewer in viewers)
    assert await asyncio.gather(*asked) == ["x"] * 20
    assert len(made) == 1


async def test_one_who_sends_many_delays_only_themselves() -> None:
    """While a district's long document is worked on, another district's is done; and the event loop goes on."""
    background, done, until = Background(), list[str](), threading.Event()
    slow = [
        asyncio.create_task(background.once(MAPLE, n, nothing, blocked(until, done, f"slow {n}")))
        for n in range(10)
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        assert await background.once(BIRCH, "quick", nothing, lambda: "quick") == "quick"
    assert done == []
    until.set()
    async with asyncio.timeout(PATIENCE):
        # Of the same district, but the first of its viewer: only what is in work comes before it.
        await background.once(GUARDIAN, "next", nothing, lambda: done.append("next") or "next")
        await asyncio.gather(*slow)
    assert done.index("next") <= 2


async def test_who_waits_too_long_is_told_so() -> None:
    """A new document that does not get its turn in time is BUSY, and the next one is made (README of reads)."""
    background, until = Background(wait_seconds=0.05), threading.Event()
    slow = asyncio.create_task(background.once(MAPLE, 1, nothing, blocked(until, [], "slow")))
    await asyncio.sleep(0)
    for viewer in (MAPLE, GUARDIAN):
        with pytest.raises(Busy, match="new documents"):
            await background.once(viewer, 2, nothing, lambda: "never")
    until.set()
    assert await slow == "slow"
    assert await background.once(MAPLE, 2, nothing, lambda: "made") == "made"


async def test_a_cancelled_wait_keeps_its_turn_until_the_work_ends() -> None:
    """Who leaves while their document is in work starts no second one beside it; afterwards all goes on."""
    background, done, until = Background(), list[str](), threading.Event()
    left = asyncio.create_task(background.once(MAPLE, 1, nothing, blocked(until, done, "left")))
    await asyncio.sleep(0.05)
    left.cancel()
    following = asyncio.create_task(
        background.once(GUARDIAN, 2, nothing, lambda: done.append("following") or "f")
    )
    await asyncio.sleep(0.05)
    assert done == []
    until.set()
    async with asyncio.timeout(PATIENCE):
        assert await following == "f"
        with pytest.raises(asyncio.CancelledError):
            await left
    assert done == ["left", "following"]


async def test_a_failure_is_told_and_frees_the_turn() -> None:
    """What raises in the thread raises to whoever asked, and the next one is made."""
    background = Background()

    def fail() -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await background.once(MAPLE, 1, nothing, fail)
    assert await background.once(MAPLE, 1, nothing, lambda: "made") == "made"
