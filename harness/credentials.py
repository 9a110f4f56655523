"""Masks passwords of database and server addresses, so that no error, table or MLflow run shows them."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

HIDDEN = "***"
NAMES = "password|passwd|pwd|sslpassword|token|secret|api_key|access_key"
SHORTEST_BARE = 4  # a shorter password, such as "a", is masked only inside an address, not everywhere in a text

# the password may hold "@": the last one before the next slash, quote or space ends it
_IN_ADDRESS = re.compile(r"(?P<front>[A-Za-z][\w+.-]*://[^\s:/@'\"]*):[^\s/'\"]*@")
_IN_OPTION = re.compile(rf"(?P<front>\b(?:\w*_)?(?:{NAMES})(?:=|%3D))[^\s&;'\",)]+", re.IGNORECASE)
_SECRET_NAME = re.compile(rf"(?:\w*_)?(?:{NAMES})", re.IGNORECASE)

_met: set[str] = set()


def remember(*uris: str | None) -> None:
    """Remember the passwords in addresses, so that `scrubbed` also masks them outside of an address.

    An error of a PostgreSQL driver, for example, may quote the password alone.
    """
    _met.update(secret for uri in uris if uri for secret in _secrets(uri))


def shown(uri: str) -> str:
    """Return an address with its passwords masked."""
    return scrubbed(uri)


def scrubbed(text: str) -> str:
    """Return a text in which passwords are masked, inside addresses and, if remembered, anywhere else."""
    text = _IN_ADDRESS.sub(rf"\g<front>:{HIDDEN}@", text)
    text = _IN_OPTION.sub(rf"\g<front>{HIDDEN}", text)
    for secret in sorted(_met, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(uri: str) -> set[str]:
    """Return the passwords of an address, both percent-encoded as written and decoded."""
    place, _, query = uri.partition("://")[2].partition("?")
    people, at, _ = place.rpartition("@")
    found = {people.partition(":")[2]} if at else set[str]()
    for name, value in parse_qsl(query, keep_blank_values=True):
        if _SECRET_NAME.fullmatch(name):
            found |= {value}
        found |= {match.group().rpartition("=")[2] for match in _IN_OPTION.finditer(value)}
    return {each for secret in found for each in (secret, unquote(secret)) if len(each) >= SHORTEST_BARE}
