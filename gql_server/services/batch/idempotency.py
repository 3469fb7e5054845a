"""Idempotency keys: for a day the same key with the same input returns the same run."""

import hashlib
import json

from gql_server.db.protocols import Connection
from gql_server.db.statements import fetchrow, fetchval
from gql_server.domain.limits import IDEMPOTENCY_KEY
from gql_server.errors import UserError, rejected
from gql_server.services.batch.request import BatchRequest

VALID_SECONDS = 24 * 3600.0
"""How long a key returns the run that was recorded with it."""
_PATH = "idempotencyKey"


def validate_key(key: str | None) -> list[UserError]:
    """Return an error for a key that cannot be used: INVALID_IDEMPOTENCY_KEY."""
    if key is None or (0 < len(key) <= IDEMPOTENCY_KEY.longest and key.isprintable()):
        return []
    message = (
        f"An idempotency key has 1 to {IDEMPOTENCY_KEY.longest} printable characters. A UUID is a good one."
    )
    return [UserError("INVALID_IDEMPOTENCY_KEY", message, (_PATH,))]


def request_hash(request: BatchRequest) -> str:
    """Return a hash of the input. The order of cells, schools and grades does not change it."""
    scope = request.scope
    content = [
        request.mode,
        scope.school_ids and sorted(scope.school_ids),
        scope.school_year,
        scope.grades and sorted(scope.grades),
        scope.filter_id,
        sorted({(cell.contact_point, cell.reason, cell.set) for cell in request.cells}),
        request.keep_chosen,
        request.dry_run,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


async def find_run(conn: Connection, district_id: int, request: BatchRequest) -> int | None:
    """Return the run that was recorded with the request's key, if any. Raises Rejected: IDEMPOTENCY_KEY_REUSED."""
    if request.idempotency_key is None:
        return None
    key = {"district_id": district_id, "key": request.idempotency_key, "valid_seconds": VALID_SECONDS}
    row = await fetchrow(conn, "batch/request/find_idempotency_key", **key)
    if row is None:
        return None
    if row["request_hash"] != request_hash(request):
        message = "This idempotency key was used with another input. Send a new key with a new input."
        raise rejected("IDEMPOTENCY_KEY_REUSED", message, _PATH)
    return int(row["batch_run_id"])


async def claim_idempotency_key(
    conn: Connection, district_id: int, request: BatchRequest, batch_run_id: int
) -> bool:
    """Record the request's key for a run. Return False if another call has claimed the key in the meantime."""
    if request.idempotency_key is None:
        return True
    claimed = await fetchval(
        conn,
        "batch/request/claim_idempotency_key",
        district_id=district_id,
        key=request.idempotency_key,
        request_hash=request_hash(request),
        batch_run_id=batch_run_id,
        valid_seconds=VALID_SECONDS,
    )
    return claimed is not None
