"""Ed-Fi bulk XML: the interchange files of one district, imported whole or not at all.

What becomes of the files:

- Students, contacts and staff become people, `student-17`, `contact-17` and `staff-17`.
- Mobile is the cell phone, Work the work phone, Home the home phone; but the Home number of a contact who lives
  with a student is their household's phone, a primary contact's before others', and a different one stays the
  home phone of the contact who gave it. The first email is the email, the second the secondary one. Numbers of
  other types are left out.
- Students and the contacts who live with them are a household, joined over the contacts they share.
- Relations make guardians (parents, not step-parents, and guardians) unless LegalGuardian is given; `messenger`
  makes messenger contacts (D8). The no-contact mark and a relationship's dates are not the files' to say.
- An enrollment's year is the one given, its calendar's, or follows from the sessions and the entry date.
- A start of 0001-01-01 is open, and so is an end of 9999-12-31; other days are from 1900-01-01 to 2199-12-31 (D6).
- What is kept is one line without control characters, no longer than `gql_server.domain.limits` says.
- An assignment to a school is one there; to any other organization, one to the district's office (D9).
"""

import os
from pathlib import Path
from zoneinfo import available_timezones

from gql_server.db.protocols import Connection
from gql_server.db.statements import execute
from gql_server.domain.limits import DISTRICT_CODE
from gql_server.errors import ImportFailed
from gql_server.hooks.host import PluginHost
from gql_server.services.districts import create_district, find_district
from gql_server.services.imports.edfi.records import FILES, MESSENGERS, Mapper
from gql_server.services.imports.edfi.xml import read_records
from gql_server.services.imports.load import load
from gql_server.services.imports.refusals import told_as_failures
from gql_server.services.imports.report import ImportReport
from gql_server.services.imports.staging import Stage


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

    A district that is new takes its name from the files and the time zone given; one that is there keeps
    both. `messenger` says which relationships become messenger contacts (D8): `primary`, `emergency` or
    `all`. Files are streamed: memory does not grow with them. What is there is updated only where it
    differs, preferences are never touched, and what the files lack stays as it is (D30); an import that
    changes nothing leaves no revision (D28).

    Raises ImportFailed, with the file and the line where there is one; nothing is written then.
    """
    paths = _checked(folder, code, messenger, time_zone)
    with told_as_failures(str(folder)):
        return await _import(conn, host, paths, code, messenger, time_zone, actor)


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
        stage = await Stage.create(conn)
        mapper = Mapper(stage, messenger)
        for path in paths:
            await _stage_file(stage, mapper, path)
        await stage.finish()
        # Only now: making a district locks what others may be waiting for.
        district = await find_district(conn, code) or await create_district(
            conn, code, mapper.district_name or code, time_zone, host.reasons
        )
        return await load(conn, district.district_id, code, mapper.left_out, actor)


async def _stage_file(stage: Stage, mapper: Mapper, path: Path) -> None:
    handlers = FILES[path.name]
    for record in read_records(path, frozenset(handlers)):
        handlers[record.tag](mapper, record)
        await stage.copy_full()


def _checked(folder: Path, code: str, messenger: str, time_zone: str) -> list[Path]:
    """Return the files to read, in the order of reading. Raises ImportFailed.

    Asked by `os.path`: for a path that cannot be looked at, such as one too long, a Path's own methods raise.
    """
    problem = None
    if not code.strip():
        problem = "the district's code is empty. Give one, such as maple."
    elif unfit := DISTRICT_CODE.problem(code):
        problem = f"the district's code cannot be kept. {unfit}"
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
