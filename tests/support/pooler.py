"""A pooler of the tests' own: it speaks as much of PostgreSQL's protocol as it takes to hand connections on.

Each transaction of a client goes to the connection that has rested longest, so that hardly two in a row meet the same
one. Names of prepared statements are passed on as they are, as by PgBouncer before 1.21.
"""

import asyncio
import os
import secrets
import shutil
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.faults import free_port

_VERSION, _CANCEL, _SSL, _GSS = 196608, 80877102, 80877103, 80877104
_KNOWN = {"user", "database", "client_encoding", "application_name", "replication"}
"""The startup parameters that a pooler takes; others it refuses."""


@dataclass
class _Backend:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    key: bytes


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _startup(parameters: dict[str, str]) -> bytes:
    pairs = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items())
    body = struct.pack("!I", _VERSION) + pairs + b"\0"
    return struct.pack("!I", len(body) + 4) + body


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


class Pooler:
    """Hands on connections to one database that lies behind a Unix socket. `switches`: how often it gave another."""

    def __init__(self, dsn: str, size: int) -> None:
        url = urlsplit(dsn)
        self._socket = f"{parse_qs(url.query)['host'][0]}/.s.PGSQL.5432"
        self._user, self._database = url.username or "postgres", url.path.lstrip("/")
        self._size = size
        self._free: asyncio.Queue[_Backend] = asyncio.Queue()
        self._greeting = b""
        self._serving: dict[bytes, _Backend | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.switches = 0
        self.dsn = ""

    async def open(self) -> None:
        for _ in range(self._size):
            self._free.put_nowait(await self._connect())

    async def _connect(self) -> _Backend:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        self._writers.append(writer)
        writer.write(_startup({"user": self._user, "database": self._database, "client_encoding": "UTF8"}))
        greeting, key = b"", b""
        while True:
            kind, body = await _read(reader)
            if kind == b"S":
                greeting += _message(kind, body)
            elif kind == b"K":
                key = body
            elif kind == b"Z":
                self._greeting = greeting
                return _Backend(reader, writer, key)
            assert kind in b"RSK", (kind, body)

    async def backends(self) -> AsyncIterator[_Backend]:
        for _ in range(self._size):
            backend = await self._free.get()
            yield backend
            self._free.put_nowait(backend)

    async def ask(self, question: str) -> list[str]:
        """Return every connection's answer to a question in SQL, the first column of its first row."""
        answers = []
        async for backend in self.backends():
            backend.writer.write(_message(b"Q", f"{question}\0".encode()))
            while True:
                kind, body = await _read(backend.reader)
                assert kind != b"E", body
                if kind == b"D":
                    answers.append(body[6:].decode())
                elif kind == b"Z":
                    break
        return answers

    async def close(self) -> None:
        """Leave neither a client nor a connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.append(writer)
        with suppress(EOFError, ConnectionError):  # it left
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            length, code = struct.unpack("!II", await reader.readexactly(8))
            body = await reader.readexactly(length - 8)
            if code == _CANCEL:
                return await self._cancel(body)
            if code == _VERSION:
                break
            writer.write(b"N")  # no TLS
        given = body.rstrip(b"\0").decode().split("\0")[::2]
        if unknown := set(given) - _KNOWN:
            words = f"unsupported startup parameter: {unknown.pop()}"
            writer.write(_message(b"E", f"SFATAL\0C08P01\0M{words}\0\0".encode()))
            return None
        key = secrets.token_bytes(8)
        self._serving[key] = None
        greeting = _message(b"R", bytes(4)) + self._greeting + _message(b"K", key) + _message(b"Z", b"I")
        writer.write(greeting)
        try:
            await self._hand_on(key, reader, writer)
        finally:
            del self._serving[key]
        return None

    async def _hand_on(self, key: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said: asyncio.Queue[tuple[bytes, bytes] | None] = asyncio.Queue()
        listening = asyncio.create_task(_listen(reader, said))
        last: _Backend | None = None
        try:
            while message := await said.get():
                backend = await self._free.get()
                self.switches += backend is not last
                last = self._serving[key] = backend
                try:
                    await _transaction(message, said, backend, writer)
                except BaseException:
                    backend.writer.close()  # the client left in the middle
                    backend = await self._connect()
                    raise
                finally:
                    self._serving[key] = None
                    self._free.put_nowait(backend)
        finally:
            listening.cancel()

    async def _cancel(self, key: bytes) -> None:
        backend = self._serving.get(key)
        if backend is not None:
            _, writer = await asyncio.open_unix_connection(self._socket)
            writer.write(struct.pack("!II", 16, _CANCEL) + backend.key)
            await writer.drain()
            writer.close()


async def _listen(reader: asyncio.StreamReader, said: asyncio.Queue[tuple[bytes, bytes] | None]) -> None:
    """Queue what a client says; None when it has left."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while (message := await _read(reader))[0] != b"X":
            said.put_nowait(message)
    said.put_nowait(None)


async def _transaction(
    first: tuple[bytes, bytes],
    said: asyncio.Queue[tuple[bytes, bytes] | None],
    backend: _Backend,
    writer: asyncio.StreamWriter,
) -> None:
    """Pass on what both say until PostgreSQL is ready for another transaction. Raises EOFError: the client has left."""
    waits = 0  # for so many times that it says it is ready

    async def answer() -> None:
        nonlocal waits
        while True:
            kind, body = await _read(backend.reader)
            writer.write(_message(kind, body))
            if kind == b"Z":
                waits -= 1
                if not waits and body == b"I":
                    return

    answering = asyncio.create_task(answer())
    message: tuple[bytes, bytes] | None = first
    try:
        while True:
            if message is None:
                raise EOFError
            backend.writer.write(_message(*message))
            waits += message[0] in b"QS"
            more = asyncio.create_task(said.get())
            await asyncio.wait({more, answering}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                more.cancel()
                answering.result()
                return
            message = more.result()
    finally:
        answering.cancel()


@asynccontextmanager
async def pooler(dsn: str, size: int = 4) -> AsyncIterator[Pooler]:
    """Run a pooler before a database for the length of the block; its DSN is `dsn`."""
    made = Pooler(dsn, size)
    await made.open()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made.dsn = f"postgresql://postgres@127.0.0.1:{port}{urlsplit(dsn).path}"
    try:
        yield made
    finally:
        server.close()
        await made.close()


@contextmanager
def pgbouncer(dsn: str) -> Iterator[str]:
    """Run PgBouncer in transaction mode before a database, set up as Debian sets it up, and give its DSN.

    Skips the test where there is none.
    """
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        pytest.skip("there is no pgbouncer here: install Debian's package to run this")
    url, port = urlsplit(dsn), free_port()
    socket = parse_qs(url.query)["host"][0]
    with tempfile.TemporaryDirectory(prefix="gql-server-pooler-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "users").write_text('"postgres" ""\n')
        (folder / "ini").write_text(
            f"[databases]\n* = host={socket}\n[pgbouncer]\npool_mode = transaction\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
            f"auth_file = {folder / 'users'}\ndefault_pool_size = 4\n"
        )  # fmt: skip
        who: dict[str, Any] = {"user": os.stat(socket).st_uid} if os.geteuid() == 0 else {}
        child = subprocess.Popen([binary, str(folder / "ini")], stderr=subprocess.DEVNULL, **who)
        try:
            behind = f"postgresql://postgres@127.0.0.1:{port}{url.path}"
            yield behind
        finally:
            child.terminate()
            child.wait()
