"""The response to a GraphQL request that was executed: status 200, and a body that is JSON already."""

from typing import Any, cast

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.web_request import BaseRequest


class JsonResponse(web.Response):
    """A response whose head is written as one text. aiohttp would make a dictionary of headers for each response."""

    def __init__(self, body: bytes, media_type: str) -> None:
        super().__init__(body=body)
        self._media_type = f"{media_type}; charset=utf-8"

    async def _start(self, request: BaseRequest) -> AbstractStreamWriter:
        if request.version != HttpVersion11 or not request.keep_alive or self.keep_alive is False:
            self.headers[hdrs.CONTENT_TYPE] = self._media_type
            return await super()._start(request)
        self._req, self._keep_alive = request, True
        writer = self._payload_writer = request._payload_writer
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {self._media_type}\r\nContent-Length: {len(cast(bytes, self.body))}\r\n"
            f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
        )
        # The writer sends the head together with the body.
        cast(Any, writer)._headers_buf, cast(Any, writer)._headers_written = head.encode(), False
        return writer
