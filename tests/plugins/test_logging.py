"""The log of a real server: one format for the server, its libraries and its plug-ins, without anybody's data."""

import json
from pathlib import Path
from typing import Any

import pytest

from gql_server.domain.ids import IdKind, encode_id
from tests.support.builder import DistrictBuilder
from tests.support.faults import ServerProcess

pytestmark = pytest.mark.slow

SET = """
mutation set($input: SetPreferencesInput!) { setPreferences(input: $input) { userErrors { code } } }"""
TALKS = """
import logging, threading, warnings
from gql_server.hooks import hookimpl

log = logging.getLogger("maple.talks")

@hookimpl
def preferences_changed(changes):
    log.debug("not told")
    log.info("%s is at %d", changes.district, changes.revision)
    log.info("%d of %d", "Ada Lane")
    warnings.warn("old ways")
    try:
        raise ValueError("Ada Lane")
    except ValueError:
        log.exception("Could not tell.")
    thread = threading.Thread(target=lambda: {}["Ada Lane"])
    thread.start()
    thread.join()
    log.warning("done")
"""


async def logged(dsn: str, district: DistrictBuilder, folder: Path, **settings: str) -> tuple[str, list[Any]]:
    """Return the log of a server that has written one preference: the whole text, and the lines of the log."""
    person = encode_id(IdKind.PERSON, await district.person("Ada Lane", cell_phone="555-0100"))
    plugin = folder / "plugins" / "talks.py"
    plugin.parent.mkdir()
    plugin.write_text(TALKS, encoding="utf-8")
    server = ServerProcess(dsn, folder, PLUGINS_DIR=str(plugin.parent), **settings)
    server.start()
    try:
        await server.up()
        cell = {"contactPoint": "CELL_PHONE", "method": "VOICE", "reason": "GENERAL", "on": True}
        await server.ask(district.district.code, SET, {"input": {"personId": person, "cells": [cell]}})
    finally:
        assert server.stop() == 0, server.log
    text = server.log
    lines = [line for line in text.splitlines() if not line.startswith("Serving on")]
    return text, [json.loads(line) for line in lines]


async def test_what_a_plugin_logs_appears_beside_the_servers_own(
    dsn: str, district: DistrictBuilder, tmp_path: Path
) -> None:
    """What plug-ins log with the standard library appears in the server's log, in its format and from its level on. An
    exception, a thread that fails and a call that does not fit its message are one line each, without their words and
    without a trace."""
    text, lines = await logged(dsn, district, tmp_path)
    assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in lines), text
    told = {(line["logger"], line["level"], line["event"]) for line in lines}
    assert ("maple.talks", "info", "maple is at 1") in told
    assert ("maple.talks", "warning", "done") in told
    assert (
        "gql_server.activity",
        "info",
        "district maple is at revision 1: 1 preferences changed by ADMIN",
    ) in told
    assert [line["level"] for line in lines if line["logger"] == "py.warnings"] == ["warning"]
    (failed,) = (line for line in lines if line["event"] == "Could not tell.")
    assert failed["error"] == "ValueError"
    assert "talks.py:" in failed["where"]
    assert [line["error"] for line in lines if line["event"] == "A thread has failed."] == ["KeyError"]
    assert any("do not match" in line["event"] for line in lines if line["logger"] == "maple.talks")
    assert "not told" not in text
    assert "Ada" not in text
    assert "Traceback" not in text


async def test_the_level_holds_for_plugins_too(dsn: str, district: DistrictBuilder, tmp_path: Path) -> None:
    """GQL_SERVER_LOG_LEVEL holds for what plug-ins log as for the server's own lines."""
    _, lines = await logged(dsn, district, tmp_path, LOG_LEVEL="ERROR")
    events = {line["event"] for line in lines if line["logger"] == "maple.talks"}
    assert "Could not tell." in events
    assert "done" not in events
