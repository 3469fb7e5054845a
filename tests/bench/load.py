"""A load generator: keep-alive connections that each send the next request when the last is answered.

Written on bare streams, so that on few cores it takes as little as it can from the server it measures.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """What a turn measured: requests answered, requests a second, and the latencies' percentiles in milliseconds."""

    requests: int
    rate: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A request of a paced load: when it was due (`time.perf_counter`), and how many seconds later it was answered.

    `good`: whether the answer tells of no errors.
    """

    due: float
    seconds: float
    good: bool


def http_request(port: int, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return the bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def run_load(port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Send the requests in turn over so many connections for so long. Raises RuntimeError for any answer but 200."""
    latencies: list[float] = []
    in_turn = itertools.cycle(requests)
    end = time.perf_counter() + seconds

    async def worker() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.perf_counter()) < end:
            writer.write(next(in_turn))
            await _read_answer(reader)
            latencies.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    elapsed = time.perf_counter() - start
    latencies.sort()
    return Load(
        len(latencies),
        len(latencies) / elapsed,
        latencies[len(latencies) // 2] * 1000,
        latencies[int(len(latencies) * 0.99)] * 1000,
    )


async def run_paced(
    port: int, requests: Sequence[bytes], *, rate: float, until: asyncio.Event
) -> list[Answer]:
    """Send so many requests a second, in turn, whether or not earlier ones have been answered.

    A request is timed from when it was due: one that had to wait behind a slow one shows it.
    """
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    answers: list[Answer] = []

    async def send(request: bytes, due: float) -> None:
        connection = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        connection[1].write(request)
        body = await _read_answer(connection[0])
        idle.append(connection)
        answers.append(Answer(due, time.perf_counter() - due, is_good(body)))

    begin, sent = time.perf_counter(), 0
    async with asyncio.TaskGroup() as tasks:
        while not until.is_set():
            due = begin + sent / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(send(requests[sent % len(requests)], due))
            sent += 1
    for _, writer in idle:
        writer.close()
    return answers


def is_good(body: bytes) -> bool:
    """Return whether a GraphQL answer holds no errors; of userErrors the request must ask for `code`."""
    return b'"errors"' not in body and b'"code"' not in body


async def fetch_once(port: int, request: bytes) -> bytes:
    """Send one request and return the body of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    body = await _read_answer(reader)
    writer.close()
    return body


async def _read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    marker = head.lower().index(b"content-length:")
    length = int(head[marker + 15 : head.index(b"\r\n", marker)])
    return await reader.readexactly(length)
