"""Runs `gql-server` as a user does: a process of its own, with an environment of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMAND = Path(sys.executable).with_name("gql-server")


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment with these settings and no others; PORT stands for GQL_SERVER_PORT."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GQL_SERVER_")}
    return {
        **own,
        "COLUMNS": "150",
        **{f"GQL_SERVER_{name}": value for name, value in (settings or {}).items()},
    }


def gql_server(
    *arguments: str, settings: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return it, whatever its exit code. `timeout` is in seconds."""
    return subprocess.run(
        [str(COMMAND), *arguments],
        env=environment(settings), cwd=cwd, timeout=timeout, text=True, capture_output=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """Return the one line in which a command refused, and make sure that it is one, without a traceback."""
    assert result.returncode == 1, (result.stdout, result.stderr)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    return lines[0].removeprefix("Error: ")
