"""The one form in which addresses are stored, so that an opt-out by address matches (D19)."""

import re

_NUMBER = re.compile(r"[^0-9+]*(?P<plus>\+?)(?P<number>[^0-9A-Za-z#;,]*[0-9][^A-Za-z#;,]*)", re.ASCII)

_SPACE = re.compile(r"\s")


def phone_number(text: str) -> str | None:
    """Return the digits of a number, after a `+` where it begins with one; None where there are none.

    No country code is made up, and an extension (`x 12`, `ext. 12`, `#12`) is dropped rather than run into
    the number: `(950) 342 7522 x 12` is `9503427522`.
    """
    match = _NUMBER.match(text)
    if match is None:
        return None
    return match["plus"] + "".join(character for character in match["number"] if character in "0123456789")


def email_address(text: str) -> str | None:
    """Return an address trimmed and in lower case; None where it has no `@` within, or a space."""
    address = text.strip().lower()
    local, _, domain = address.rpartition("@")
    return address if local and domain and not _SPACE.search(address) else None
