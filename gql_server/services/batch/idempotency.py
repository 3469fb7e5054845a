"""Idempotency keys: the same key and the same input answer the same run for a day."""

import hashlib
import json

from gql_server.db.protocols import Connection
from gql_server.db.statements import fetchrow, fetchval
from gql_server.domain.limits import IDEMPOTENCY_KEY
from gql_server.errors import UserError, rejected
from gql_server.services.batch.request import BatchRequest

VALID_SECONDS = 24 * 3600.0
"""How long a key answers the run that it was first sent with."""
_PATH = "idempotencyKey"


def key_errors(key: str | None) -> list[UserError]:
    """Return what is wrong with a key: INVALID_IDEMPOTENCY_KEY."""
    if key is None or (0 < len(key) <= IDEMPOTENCY_KEY.longest and key.isprintable()):
        return []
    words = (
        f"An idempotency key is 1 to {IDEMPOTENCY_KEY.longest} printable characters. A UUID is a good one."
    )
    return [UserError("INVALID_IDEMPOTENCY_KEY", words, (_PATH,))]


def request_hash(request: BatchRequest) -> str:
    """Return what tells one input from another. The order of cells, schools and grades is no part of it."""
    scope = request.scope
    told = [
        request.mode,
        scope.school_ids and sorted(scope.school_ids),
        scope.school_year,
        scope.grades and sorted(scope.grades),
        scope.filter_id,
        sorted({(cell.contact_point, cell.reason, cell.set) for cell in request.cells}),
        request.keep_chosen,
        request.dry_run,
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


async def find_run(conn: Connection, district_id: int, request: BatchRequest) -> int | None:
    """Return the run that the request's key stands for, if any. Raises Rejected: IDEMPOTENCY_KEY_REUSED."""
    if request.idempotency_key is None:
        return None
    key = {"district_id": district_id, "key": request.idempotency_key, "valid_seconds": VALID_SECONDS}
    row = await fetchrow(conn, "batch/request/find_idempotency_key", **key)
    if row is None:
        return None
    if row["request_hash"] != request_hash(request):
        words = "This idempotency key was sent with another input. Send a new key with a new input."
        raise rejected("IDEMPOTENCY_KEY_REUSED", words, _PATH)
    return int(row["batch_run_id"])


async def claim_idempotency_key(
    conn: Connection, district_id: int, request: BatchRequest, batch_run_id: int
) -> bool:
    """Let the request's key stand for a run; return False where another call has taken it meanwhile."""
    if request.idempotency_key is None:
        return True
    taken = await fetchval(
        conn,
        "batch/request/claim_idempotency_key",
        district_id=district_id,
        key=request.idempotency_key,
        request_hash=request_hash(request),
        batch_run_id=batch_run_id,
        valid_seconds=VALID_SECONDS,
    )
    return taken is not None
