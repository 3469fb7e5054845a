"""Rows of the log for tests."""

from typing import Any

BUCKET = 1024
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
