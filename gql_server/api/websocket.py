"""GraphQL over a WebSocket, by the protocol graphql-transport-ws: one connection carries many operations."""

import asyncio
from contextlib import suppress

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from gql_server.api.errors import error_entries
from gql_server.api.execution import RequestExecutor
from gql_server.api.graphql_request import MalformedRequest, RequestError, parse_request
from gql_server.api.sessions import Session, Sessions
from gql_server.errors import Busy, TimedOut, Unauthenticated, Unavailable

SUBPROTOCOL = "graphql-transport-ws"
HEARTBEAT_SECONDS = 20.0
_INIT_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_MAX_OPERATIONS = 20
_MAX_MESSAGES = 200
"""Messages that one connection may send in a second."""
_MAX_REASON_BYTES = 120  # a control frame holds no more

_BAD_MESSAGE, _UNAUTHORIZED, _FORBIDDEN = 4400, 4401, 4403
_INIT_TIMEOUT, _ID_IN_USE, _TOO_MANY = 4408, 4409, 4429

Json = dict[str, object]


class _Closed(Exception):
    """The connection must be closed, with a code and a reason for the client's developer."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def offers_protocol(request: web.Request) -> bool:
    """Tell whether a client offers the protocol that this server supports."""
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    return SUBPROTOCOL in {name.strip() for name in offered.split(",")}


def new_socket(max_message_bytes: int) -> web.WebSocketResponse:
    """Return an unopened socket. It closes if the client does not answer its pings."""
    return web.WebSocketResponse(
        protocols=(SUBPROTOCOL,),
        heartbeat=HEARTBEAT_SECONDS,
        max_msg_size=max_message_bytes,
        compress=False,
        timeout=_CLOSE_SECONDS,
    )


class ClientConnection:
    """The connection of one client, from its opening to its end."""

    def __init__(
        self, socket: web.WebSocketResponse, executor: RequestExecutor, sessions: Sessions, authorization: str
    ) -> None:
        """`socket` is open. `authorization` is the header of the request that opened it; it may be empty."""
        self._socket, self._executor, self._sessions = socket, executor, sessions
        self._authorization = authorization
        self._session: Session | None = None
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._second, self._messages = 0.0, 0  # the start of the current second, and the messages since

    async def serve(self) -> None:
        """Serve until one side closes. Then cancel all operations, except mutations, which run to their end."""
        try:
            # The deadline is first that of connection_init, and later the expiry of the token.
            async with asyncio.timeout(_INIT_SECONDS) as self._deadline:
                async for message in self._socket:
                    await self._receive(message)
        except TimeoutError:
            if self._session is None:
                await self._close(_INIT_TIMEOUT, "Connection initialisation timeout")
            else:  # 4403 instead of 4401, because clients then connect again, with a new token
                await self._close(_FORBIDDEN, "The token has expired. Connect again with a new one.")
        except _Closed as closed:
            await self._close(closed.code, closed.reason)
        except ConnectionError:  # the client disconnected while a message was being sent
            pass
        finally:
            await self._cancel_operations()

    async def _receive(self, message: WSMessage) -> None:
        self._limit_rate()
        body = _parse(message)
        match body.get("type"):
            case "connection_init":
                await self._open(body.get("payload"))
            case "ping":
                await self._send({"type": "pong"})
            case "pong":
                pass
            case "subscribe":
                self._subscribe(body)
            case "complete":
                task = self._operations.pop(_operation_id(body), None)
                if task is not None:
                    task.cancel()
            case _:
                raise _Closed(_BAD_MESSAGE, "The message has no known type.")

    def _limit_rate(self) -> None:
        """Count a message. Raises _Closed if the client sends too many in one second."""
        now = asyncio.get_running_loop().time()
        if now - self._second >= 1:
            self._second, self._messages = now, 0
        self._messages += 1
        if self._messages > _MAX_MESSAGES:
            reason = f"At most {_MAX_MESSAGES} messages are allowed in a second. Send fewer, or use more connections."
            raise _Closed(_TOO_MANY, reason)

    async def _open(self, payload: object) -> None:
        if self._session is not None:
            raise _Closed(_TOO_MANY, "Too many initialisation requests")
        if not (payload is None or isinstance(payload, dict)):
            raise _Closed(_BAD_MESSAGE, "The payload of connection_init must be an object.")
        given = payload or {}
        authorization = given.get("Authorization", given.get("authorization", self._authorization))
        try:
            self._session = await self._sessions.open(str(authorization))
        except Unauthenticated as error:
            raise _Closed(_UNAUTHORIZED, str(error)) from None
        except (TimedOut, Unavailable) as error:
            raise _Closed(WSCloseCode.TRY_AGAIN_LATER, str(error)) from None
        self._deadline.reschedule(asyncio.get_running_loop().time() + self._session.seconds_left)
        await self._send({"type": "connection_ack"})

    def _subscribe(self, body: Json) -> None:
        if self._session is None:
            raise _Closed(_UNAUTHORIZED, "Unauthorized")
        operation_id = _operation_id(body)
        if operation_id in self._operations:
            raise _Closed(_ID_IN_USE, "Subscriber for this id already exists")
        work = self._execute(operation_id, body.get("payload"), self._session)
        self._operations[operation_id] = asyncio.create_task(work)

    async def _execute(self, operation_id: str, payload: object, session: Session) -> None:
        """Execute one operation: send its responses, then `complete`; or `error` if it is refused."""
        this_task = asyncio.current_task()
        try:
            await self._send_responses(operation_id, payload, session)
            last: Json = {"type": "complete", "id": operation_id}
        except RequestError as error:
            last = {"type": "error", "id": operation_id, "payload": error.errors}
        except MalformedRequest as problem:
            await self._close(_BAD_MESSAGE, str(problem))
            return
        except ConnectionError:  # the client has disconnected
            return
        finally:  # before the last message, because its receiver may use the id again at once
            if self._operations.get(operation_id) is this_task:
                del self._operations[operation_id]
        with suppress(ConnectionError):
            await self._send(last)

    async def _send_responses(self, operation_id: str, payload: object, session: Session) -> None:
        if len(self._operations) > _MAX_OPERATIONS:
            message = f"A connection may have {_MAX_OPERATIONS} operations at a time. Complete one first."
            raise RequestError([{"message": message, "extensions": {"code": "TOO_MANY_OPERATIONS"}}])
        try:
            prepared = await self._executor.prepare(parse_request(payload), session.viewer)
        except Busy as error:
            raise RequestError(error_entries(error)) from error
        prefix = b'{"type":"next","id":' + orjson.dumps(operation_id) + b',"payload":'
        async for response in self._executor.stream(prepared, session.viewer):
            await self._socket.send_str((prefix + response + b"}").decode())

    async def _send(self, message: Json) -> None:
        # Text, because clients reject binary frames.
        await self._socket.send_str(orjson.dumps(message).decode())

    async def _close(self, code: int, reason: str) -> None:
        message = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
        with suppress(ConnectionError):
            await self._socket.close(code=code, message=message)

    async def _cancel_operations(self) -> None:
        tasks = list(self._operations.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _parse(message: WSMessage) -> Json:
    """Return the JSON object in a message. Raises _Closed if there is none."""
    body = None
    if message.type is WSMsgType.TEXT:
        with suppress(ValueError):
            body = orjson.loads(message.data)
    if not isinstance(body, dict):
        raise _Closed(_BAD_MESSAGE, "A message must be a JSON object in a text frame.")
    return body


def _operation_id(body: Json) -> str:
    operation_id = body.get("id")
    if not isinstance(operation_id, str) or not operation_id:
        raise _Closed(_BAD_MESSAGE, "The message needs an `id`, which is a string that is not empty.")
    return operation_id
