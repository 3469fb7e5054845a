"""Reads the body of an HTTP request: within its time limit and size limit, decompressed, and parsed."""

import asyncio
import zlib

import orjson
from aiohttp import StreamReader, hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from gql_server.api.graphql_request import BAD_REQUEST, GraphQLRequest, MalformedRequest, parse_request

JSON = "application/json"

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's window bits by content encoding. 15 is the largest window; 16 more make zlib expect the header of gzip."""
_NOT_JSON = (
    "The body is not JSON that can be read: send UTF-8, whole numbers of at most 64 bits, no lone surrogates."
)


class BadBody(Exception):
    """The body of a request is refused. Holds the status, the code, the message and the headers of the response."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


async def read_request(request: web.Request, timeout_seconds: float) -> GraphQLRequest:
    """Return the GraphQL request in the body of an HTTP request. Raises BadBody."""
    headers = request.headers
    if headers.get(hdrs.CONTENT_TYPE) != JSON and request.content_type != JSON:
        raise BadBody(415, "UNSUPPORTED_MEDIA_TYPE", f"Send the request as {JSON}.")
    encoding = headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
    if encoding != "identity" and encoding not in _WINDOW_BITS:
        message = (
            "The Content-Encoding of the body is not supported. Send it as gzip, deflate, or uncompressed."
        )
        raise BadBody(400, BAD_REQUEST, message, Accept_Encoding="gzip, deflate, identity")
    content = request.content
    # A body that has arrived together with its headers needs no time limit.
    body = content.read_nowait() if _has_all(content) else await _read(request, timeout_seconds)
    if len(body) > request.client_max_size:
        raise _too_large()
    if encoding != "identity":
        body = _decompress(body, encoding, request.client_max_size)
    try:
        return parse_request(orjson.loads(body))
    except ValueError:
        raise BadBody(400, BAD_REQUEST, _NOT_JSON) from None
    except MalformedRequest as problem:
        raise BadBody(400, BAD_REQUEST, str(problem)) from None


def _has_all(content: StreamReader) -> bool:
    """Tell whether a whole body has arrived, and can be read."""
    return content.is_eof() and content.exception() is None


async def _read(request: web.Request, timeout_seconds: float) -> bytes:
    try:
        async with asyncio.timeout(timeout_seconds):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except TimeoutError:
        message = f"The body did not arrive within {timeout_seconds:g} s. Send it again."
        raise BadBody(408, "TIMEOUT", message, Connection="close") from None
    except (RequestPayloadError, web.HTTPException):
        message = "The body does not arrive as its headers say. Send it again."
        raise BadBody(400, BAD_REQUEST, message) from None


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return the decompressed body. Decompresses no more than `max_bytes`, however much there is. Raises BadBody."""
    decompressor = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        decompressed = decompressor.decompress(body, max_bytes + 1)
    except zlib.error:
        decompressed = None
    if decompressed is not None and len(decompressed) > max_bytes:
        raise _too_large()
    if decompressed is None or not decompressor.eof or decompressor.unused_data:
        raise BadBody(400, BAD_REQUEST, f"The body is not whole {encoding}. Compress it again.")
    return decompressed


def _too_large() -> BadBody:
    return BadBody(413, "TOO_LARGE", "The request is too large. Send less in one request.")
