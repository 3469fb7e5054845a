"""Rows of the log for tests."""

from collections.abc import Mapping
from typing import Any

from gql_server.db.statements import body
from gql_server.domain.sql import Sql

BUCKET = 960
MASKS = ("turned_on", "turned_off", "chosen", "unchosen")


def one_change(revision: int, subject: str, subject_id: int, kind: str, **masks: int) -> dict[str, Any]:
    """Return the columns of a row that tells of one subject, without its channel and its district."""
    packed = {name: [masks[name]] if masks.get(name) else None for name in MASKS}
    reasons = 0
    for mask in masks.values():
        reasons |= mask
    return {
        "revision": revision, "subject": subject, "bucket": subject_id // BUCKET, "kind": kind,
        "subject_ids": [subject_id], **packed, "reasons": reasons, "lowest_id": subject_id, "highest_id": subject_id,
    }  # fmt: skip


def packed_change(
    revision: int, subject: str, kind: str, masks: Mapping[int, Mapping[str, int]]
) -> dict[str, Any]:
    """Return the columns of a row that tells of several subjects of one bucket: the masks of each, by its id."""
    ids = sorted(masks)
    packed: dict[str, list[int] | None] = {}
    for name in MASKS:
        of_all = [masks[number].get(name, 0) for number in ids]
        same = len({*of_all}) == 1
        packed[name] = of_all if not same else of_all[:1] if of_all[0] else None
    reasons = 0
    for mask in (mask for own in masks.values() for mask in own.values()):
        reasons |= mask
    return {
        "revision": revision, "subject": subject, "bucket": ids[0] // BUCKET, "kind": kind, "subject_ids": ids,
        **packed, "reasons": reasons, "lowest_id": ids[0], "highest_id": ids[-1],
    }  # fmt: skip


def history_of(person: int) -> Sql:
    """Return the changes in the history of a person, as an administrator reads them."""
    subjects = body("graph/history_of_person").replace("{parent}.person_id", str(person))
    text = body("graph/change").replace("{subjects}", subjects)
    head = "with viewer_household as (select 0::bigint as household_id, true as own)"
    return Sql(
        f"{head} {text}".replace(":viewer_sees_all", "true").replace(":viewer_person_id", "null::bigint")
    )
