"""The header of a file of contacts: which columns we know, and which become attributes. Pure."""

import re
from collections.abc import Mapping, Sequence

import msgspec

from mtad.base.errors import InputError

ABOUT_CONTACT = ("email", "locale", "zone", "external_id")
ABOUT_STREAM = ("consent_at", "consent_source", "tracking", "last_sign_at", "mails_since_sign", "state")

# An attribute of one of these names could not be reached in a template, or would
# hide what a template needs: words of Jinja's expressions, and names of our own.
RESERVED = frozenset(
    {"and", "or", "not", "if", "else", "in", "is", "true", "false", "none"}
    | {"loop", "self", "super", "range", "dict", "namespace", "imprint", "unsubscribe_url"}
    | {"preferences_url", "confirm_url"}
)
OWN_PREFIX = "mtad_"
MAX_NAME = 63


class Columns(msgspec.Struct, frozen=True):
    """Where in a row everything stands."""

    known: Mapping[str, int]  # name → position
    attributes: Mapping[str, int]

    @property
    def width(self) -> int:
        return len(self.known) + len(self.attributes)

    @property
    def about_stream(self) -> list[str]:
        """The columns that mean something only together with a stream."""
        return [name for name in ABOUT_STREAM if name in self.known]


def normal_name(text: str) -> str:
    """A column's name as an attribute is called: lower case, blanks and hyphens as _."""
    return re.sub(r"[\s-]+", "_", text.strip()).lower()


def columns_of(header: Sequence[str]) -> Columns:
    """Sort the columns of a header; InputError in one line when one cannot be used."""
    known: dict[str, int] = {}
    attributes: dict[str, int] = {}
    given: dict[str, str] = {}
    for position, text in enumerate(header):
        name = normal_name(text)
        if not name:
            raise InputError(f"column {position + 1} has no name")
        if name in given:
            raise InputError(f"columns {given[name]!r} and {text!r} are both called {name}")
        given[name] = text
        if name in ABOUT_CONTACT or name in ABOUT_STREAM:
            known[name] = position
            continue
        if not name.isidentifier() or name.startswith("_") or len(name) > MAX_NAME:
            raise InputError(
                f"column {text!r}: no name for an attribute; write a letter, then letters, digits and _,"
                f" at most {MAX_NAME}"
            )
        if name in RESERVED or name.startswith(OWN_PREFIX):
            raise InputError(f"column {text!r}: {name} is reserved; rename the column")
        attributes[name] = position
    if "email" not in known:
        raise InputError(f"no column 'email' in the header: {', '.join(map(repr, header[:8]))}")
    return Columns(known, attributes)
