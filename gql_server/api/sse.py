"""Answers as server-sent events, a connection an operation (the "distinct connections mode" of graphql-sse)."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from gql_server.api.execution import Refused

MEDIA_TYPE = "text/event-stream"
_TICK_SECONDS = 1.0
_TICKS_BETWEEN_COMMENTS = 10
_HEADERS = {
    "Content-Type": f"{MEDIA_TYPE}; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # a proxy that gathered events would hold them back
}
_COMMENT = b":\n\n"
_COMPLETE = b"event: complete\ndata:\n\n"


async def stream_events(
    request: web.Request, answers: AsyncIterator[bytes], *, seconds: float, closing: asyncio.Event
) -> web.StreamResponse:
    """Send each answer as an event `next`, then `complete`; comments between them keep the connection open.

    The stream ends without `complete`, so that a client knows to ask again, after `seconds` (the token's time)
    and when the server is closing.
    """
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    loop = asyncio.get_running_loop()
    deadline, ticks = loop.time() + seconds, 0
    sending = asyncio.create_task(_send(response, answers))
    closed = asyncio.create_task(closing.wait())
    try:
        while loop.time() < deadline and request.transport is not None:
            done, _ = await asyncio.wait(
                (sending, closed), timeout=_TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                break
            ticks += 1
            if ticks % _TICKS_BETWEEN_COMMENTS == 0:
                await response.write(_COMMENT)
    except ConnectionError:  # the client has left
        pass
    finally:
        for task in (sending, closed):
            task.cancel()
        await asyncio.gather(sending, closed, return_exceptions=True)
    return response


async def _send(response: web.StreamResponse, answers: AsyncIterator[bytes]) -> None:
    """Send all events. An error that comes before or between answers is an answer too: clients see no status."""
    try:
        async for answer in answers:
            await response.write(_next(answer))
    except Refused as refusal:
        await response.write(_next(refusal.answer))
    await response.write(_COMPLETE)


def _next(answer: bytes) -> bytes:
    """Return an event. PostgreSQL's JSON may have line breaks between its tokens; strings never hold one."""
    lines = answer.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"event: next\ndata: " + lines + b"\n\n"
