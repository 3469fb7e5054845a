"""The defaults of what can be set, once each: for the settings, and for whatever is made without settings.

Times are in seconds. What each of them means is described in `settings.py`.
"""

POOL_MIN_SIZE = 2
POOL_MAX_SIZE = 10
ACQUIRE_SECONDS = 10
STATEMENT_SECONDS = 60
LOCK_SECONDS = 5
MIGRATE_LOCK_SECONDS = 2
MAX_PREPARED_BYTES = 1_000_000
MAX_READ_MEMORY = 256 * 1024 * 1024

WORKER_SILENCE_SECONDS = 30
WORKER_START_SECONDS = 120

LEASE_SECONDS = 30
"""How long a run stays with a worker that does not renew its lease."""
BATCH_POLL_SECONDS = 1
WATCH_SECONDS = 0.5
"""How often the state of a watched run is read if no notification arrives."""
CHUNK_SIZE = 10_000
"""How many channels one transaction of a run writes at most."""
PLAN_MAX_AGE = 24 * 3600
"""From what age a plan that is applied is reported as outdated."""
BATCH_WORKERS = 2

CHECK_SECONDS = 30
"""How long a check may take over one chunk of candidates."""
HOOK_SECONDS = 10
"""How long the hooks that one request calls may take, and each call of a listener."""

MAX_DOCUMENT_CHARACTERS = 50_000
MAX_PAGE_SIZE = 100
MAX_PRICE = 500_000
MAX_STATEMENT_CHARACTERS = 90_000
MAX_ANSWER_BYTES = 4 * 1024 * 1024
