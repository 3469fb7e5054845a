"""Normalizes phone numbers and email addresses, so that an opt-out by address matches (D19)."""

import re

_NUMBER = re.compile(r"[^0-9+]*(?P<plus>\+?)(?P<number>[^0-9A-Za-z#;,]*[0-9][^A-Za-z#;,]*)", re.ASCII)

_SPACE = re.compile(r"\s")


def phone_number(text: str) -> str | None:
    """Return the digits of a phone number, with a leading `+` if it has one; None if there are no digits.

    No country code is added. An extension (`x 12`, `ext. 12`, `#12`) is dropped: `(950) 342 7522 x 12` becomes
    `9503427522`.
    """
    match = _NUMBER.match(text)
    if match is None:
        return None
    return match["plus"] + "".join(character for character in match["number"] if character in "0123456789")


def email_address(text: str) -> str | None:
    """Return an email address trimmed and in lower case; None if it has no `@` inside, or contains a space."""
    address = text.strip().lower()
    local, _, domain = address.rpartition("@")
    return address if local and domain and not _SPACE.search(address) else None
