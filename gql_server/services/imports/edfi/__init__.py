"""Imports Ed-Fi bulk XML: the interchange files of one district, in one transaction.

How the files are mapped:

- Students, contacts and staff become people with the source ids `student-17`, `contact-17` and `staff-17`.
- The Mobile number becomes the cell phone, Work the work phone, Home the home phone. But the Home number of a contact
  who lives with a student becomes the household phone; a primary contact's number is preferred, and a different number
  of another contact stays that contact's home phone. The first email address becomes the email, the second one the
  secondary email. Numbers of other types are left out.
- Students and the contacts who live with them form a household. Households that share a contact are one household.
- The Relation makes a contact a guardian (parents and guardians, but no step-parents) unless LegalGuardian is given;
  the option `messenger` decides who becomes a messenger contact (D8). The files do not contain the no-contact mark and
  a relationship's dates.
- An enrollment's school year is the one given, or its calendar's, or follows from the sessions and the entry date.
- A start of 0001-01-01 and an end of 9999-12-31 are open; other days are from 1900-01-01 to 2199-12-31 (D6).
- Texts are one line without control characters, and not longer than `gql_server.domain.limits` says.
- An assignment to a school is kept as such; one to any other organization becomes one to the district office (D9).
"""

import os
from pathlib import Path
from zoneinfo import available_timezones

from gql_server.db.protocols import Connection
from gql_server.db.statements import execute
from gql_server.domain.limits import DISTRICT_CODE
from gql_server.errors import ImportFailed
from gql_server.hooks.host import PluginHost
from gql_server.services.districts import analyze_records, create_district, find_district
from gql_server.services.imports.database_refusals import as_import_failures
from gql_server.services.imports.edfi.records import FILES, MESSENGERS, Mapper
from gql_server.services.imports.edfi.xml import read_records
from gql_server.services.imports.load import load
from gql_server.services.imports.report import ImportReport
from gql_server.services.imports.staging import StagingTables


async def import_edfi(
    conn: Connection,
    host: PluginHost,
    folder: Path,
    *,
    code: str,
    messenger: str = "primary",
    time_zone: str = "UTC",
    actor: str = "IMPORT",
) -> ImportReport:
    """Import the Ed-Fi files of a folder into the district of that code, in one transaction.

    A new district gets its name from the files and the given time zone; an existing district keeps both. `messenger`
    says which relationships become messenger contacts (D8): `primary`, `emergency` or `all`. The files are streamed,
    so memory does not grow with them. Existing records are updated only if they differ, preferences are never changed,
    and records that the files lack are kept (D30). An import that changes nothing takes no revision (D28).

    Raises ImportFailed with the file, and the line if there is one. Nothing is written then.
    """
    paths = _validated_paths(folder, code, messenger, time_zone)
    with as_import_failures(str(folder)):
        report = await _import(conn, host, paths, code, messenger, time_zone, actor)
    if report.revision is not None:
        await analyze_records(conn)
    return report


async def _import(
    conn: Connection,
    host: PluginHost,
    paths: list[Path],
    code: str,
    messenger: str,
    time_zone: str,
    actor: str,
) -> ImportReport:
    async with conn.transaction():
        await execute(conn, "import/staging/lock", code=code)
        stage = await StagingTables.create(conn)
        mapper = Mapper(stage, messenger)
        for path in paths:
            await _stage_file(stage, mapper, path)
        await stage.finish()
        # This comes last because creating a district takes a lock that may block others.
        district = await find_district(conn, code) or await create_district(
            conn, code, mapper.district_name or code, time_zone, host.reasons
        )
        return await load(conn, district.district_id, code, mapper.left_out, actor)


async def _stage_file(stage: StagingTables, mapper: Mapper, path: Path) -> None:
    handlers = FILES[path.name]
    for record in read_records(path, frozenset(handlers)):
        handlers[record.tag](mapper, record)
        await stage.copy_full()


def _validated_paths(folder: Path, code: str, messenger: str, time_zone: str) -> list[Path]:
    """Return the files in the order in which they are read. Raises ImportFailed.

    This uses `os.path`, because the methods of Path raise for a path that is too long.
    """
    problem = None
    if not code.strip():
        problem = "the district's code is empty. Give one, such as maple."
    elif message := DISTRICT_CODE.text_error(code):
        problem = f"the district's code cannot be stored. {message}"
    elif messenger not in MESSENGERS:
        problem = f"there is no messenger choice {messenger!r}. Use one of {', '.join(MESSENGERS)}."
    elif time_zone not in available_timezones():
        problem = f"there is no time zone {time_zone!r}. Use one such as America/Chicago."
    elif not os.path.isdir(folder):
        problem = "there is no such folder, or it cannot be read."
    if problem:
        raise ImportFailed(str(folder), None, problem)
    for name in FILES:
        if not os.path.isfile(folder / name):
            raise ImportFailed(name, None, f"the folder {folder} lacks this file, or it cannot be read.")
    return [folder / name for name in FILES]
