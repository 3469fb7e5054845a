"""Where tests keep the data of the databases that they start."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM = 3 * 1024**3
"""Bytes that must be free there: each process of the tests needs about 300 MB, the system the rest."""


def _fast_parent() -> str | None:
    """Return a folder in memory where there is room, else None. A folder named in TMPDIR wins."""
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK | os.X_OK):
        return None
    return str(_MEMORY) if shutil.disk_usage(_MEMORY).free > _ROOM else None


@contextmanager
def database_folder() -> Iterator[Path]:
    """Give a folder for a PostgreSQL that does not outlive the block, in memory if possible.

    Every test copies a database of some 700 files, which takes several times as long on a disk. The path is short,
    as the socket lies there too, and is not below pytest's own folder, which is closed to the user who runs
    PostgreSQL for root, and of which pytest keeps the last three: a fourth session would delete this one's.
    """
    with tempfile.TemporaryDirectory(prefix="gql-server-tests-", dir=_fast_parent()) as name:
        yield Path(name)
