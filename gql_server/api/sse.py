"""Responses as server-sent events, one connection for each operation (graphql-sse, "distinct connections mode")."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from gql_server.api.graphql_request import RequestError

MEDIA_TYPE = "text/event-stream"
_POLL_SECONDS = 1.0
_POLLS_BETWEEN_COMMENTS = 10
_HEADERS = {
    "Content-Type": f"{MEDIA_TYPE}; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # a proxy that buffers would delay the events
}
_COMMENT = b":\n\n"
_COMPLETE = b"event: complete\ndata:\n\n"


async def stream_events(
    request: web.Request, responses: AsyncIterator[bytes], *, seconds: float, closing: asyncio.Event
) -> web.StreamResponse:
    """Send each GraphQL response as an event `next`, then `complete`. Comments in between keep the connection open.

    After `seconds`, when the token expires, and when the server is closing, the stream ends without `complete`. That
    tells the client to connect again.
    """
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    loop = asyncio.get_running_loop()
    deadline, polls = loop.time() + seconds, 0
    sending = asyncio.create_task(_send(response, responses))
    closed = asyncio.create_task(closing.wait())
    try:
        while loop.time() < deadline and request.transport is not None:
            done, _ = await asyncio.wait(
                (sending, closed), timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                break
            polls += 1
            if polls % _POLLS_BETWEEN_COMMENTS == 0:
                await response.write(_COMMENT)
    except ConnectionError:  # the client has disconnected
        pass
    finally:
        for task in (sending, closed):
            task.cancel()
        await asyncio.gather(sending, closed, return_exceptions=True)
    return response


async def _send(response: web.StreamResponse, responses: AsyncIterator[bytes]) -> None:
    """Send all events. An error is sent as an event too, because the HTTP status has been sent already."""
    try:
        async for each in responses:
            await response.write(_next_event(each))
    except RequestError as error:
        await response.write(_next_event(error.response))
    await response.write(_COMPLETE)


def _next_event(body: bytes) -> bytes:
    """Return the event for a response.

    An event's data must be on one line. PostgreSQL's JSON may have line breaks, but only between tokens, never in
    strings.
    """
    line = body.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"event: next\ndata: " + line + b"\n\n"
