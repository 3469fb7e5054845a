"""The body of a request: read within its time and size, unpacked, parsed."""

import asyncio
import zlib

import orjson
from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from gql_server.api.execution import BAD_REQUEST, GraphQLRequest, Malformed, parse_request

JSON = "application/json"

_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's window bits: 16 more than the largest window stand for gzip's header."""
_NOT_JSON = (
    "The body is not JSON that can be read: send UTF-8, whole numbers of at most 64 bits, no lone surrogates."
)


class BadBody(Exception):
    """A body that cannot be taken: the status, the code and the words of the answer, with headers of its own."""

    def __init__(self, status: int, code: str, words: str, **headers: str) -> None:
        super().__init__(words)
        self.status, self.code = status, code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


async def read_request(request: web.Request, seconds: float) -> GraphQLRequest:
    """Return the GraphQL request in a body that arrives within so many seconds. Raises BadBody."""
    if request.content_type != JSON:
        raise BadBody(415, "UNSUPPORTED_MEDIA_TYPE", f"Send the request as {JSON}.")
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", *_WINDOWS):
        words = "The body's Content-Encoding is not known here. Send it as gzip, deflate, or as it is."
        raise BadBody(400, BAD_REQUEST, words, Accept_Encoding="gzip, deflate, identity")
    body = await _read(request, seconds)
    if encoding != "identity":
        body = _unpack(body, encoding, request.client_max_size)
    try:
        return parse_request(orjson.loads(body))
    except ValueError:
        raise BadBody(400, BAD_REQUEST, _NOT_JSON) from None
    except Malformed as problem:
        raise BadBody(400, BAD_REQUEST, str(problem)) from None


async def _read(request: web.Request, seconds: float) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except TimeoutError:
        words = f"The body did not arrive within {seconds:g} s. Send it again."
        raise BadBody(408, "TIMEOUT", words, Connection="close") from None
    except (RequestPayloadError, web.HTTPException):
        words = "The body does not arrive as its headers say. Send it again."
        raise BadBody(400, BAD_REQUEST, words) from None


def _unpack(body: bytes, encoding: str, limit: int) -> bytes:
    """Return what was packed, of `limit` bytes at most; no more is unpacked to find out."""
    unpacker = zlib.decompressobj(_WINDOWS[encoding])
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error:
        unpacked = None
    if unpacked is not None and len(unpacked) > limit:
        raise _too_large()
    if unpacked is None or not unpacker.eof or unpacker.unused_data:
        raise BadBody(400, BAD_REQUEST, f"The body is not whole {encoding}. Pack it again.")
    return unpacked


def _too_large() -> BadBody:
    return BadBody(413, "TOO_LARGE", "The request is too large. Send less in one request.")
