"""A message as its author keeps it: a folder with subject.txt, message.html and message.txt.

    nudge-1/subject.txt      one line
    nudge-1/message.html     either of the two may be missing;
    nudge-1/message.txt      without message.txt the plain text is made from the HTML

What is wrong is one InputError line with file, line and name, before anything is stored.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from mtad.base.errors import InputError
from mtad.compose.links import Link, rewritten, with_utm
from mtad.compose.markup import Hidden, Tag, pieces
from mtad.compose.source import masked
from mtad.compose.store import Parts
from mtad.compose.template import check
from mtad.compose.text import plain_text

PIXEL = "{{ mtad_pixel }}"

# What a bulk mail owes its reader: who sends it (imprint) and how to make it stop.
_OWED = ("imprint", "unsubscribe_url")


class Draft(msgspec.Struct, frozen=True):
    """One message, checked and ready to be stored."""

    name: str
    parts: Parts
    links: tuple[Link, ...]

    @property
    def pixel(self) -> bool:
        """Plain text has none, so nobody can be heard opening it."""
        return self.parts.html is not None

    @property
    def all_links(self) -> list[tuple[int, str]]:
        """Positions and addresses, the pixel's among them."""
        pixel = [(0, "")] if self.pixel else []
        return pixel + [(link.position, link.url) for link in self.links]


def read_message(
    folder: Path, known: Collection[str], *, bulk: bool, utm: Mapping[str, str] = MappingProxyType({})
) -> Draft:
    """Read and check one folder; `known` are the attributes that contacts have, `utm` parameters for its links."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder for the message {folder.name!r}")
    subject = _read(folder / "subject.txt")
    html = _read(folder / "message.html")
    txt = _read(folder / "message.txt")
    if subject is None:
        raise InputError(f"{folder / 'subject.txt'}: there is no such file")
    if html is None and txt is None:
        raise InputError(f"{folder}: there is neither message.html nor message.txt")
    subject = subject.strip()
    if not subject or "\n" in subject:
        raise InputError(f"{folder / 'subject.txt'}: must be one line, has {len(subject.splitlines())}")
    check(subject, str(folder / "subject.txt"), known, html=False)
    for source, where, is_html in ((html, folder / "message.html", True), (txt, folder / "message.txt", False)):
        if source is not None:
            asked = check(source, str(where), known, html=is_html)
            if is_html:
                asked &= _shown_names(source, known)
            for name in _OWED if bulk else ():
                if name not in asked:
                    raise InputError(f"{where}: a bulk mail must have {{{{ {name} }}}} in it")
    links: tuple[Link, ...] = ()
    made = html is not None and txt is None
    if html is not None:
        if made:
            txt = plain_text(html)
            _require_text(txt, folder / "message.html", known, bulk=bulk)
        html, links = rewritten(html)
        links = tuple(Link(link.position, with_utm(link.url, utm)) for link in links)
        html = with_pixel(html)
    return Draft(folder.name, Parts(subject, html, txt, made), links)


def with_pixel(html: str) -> str:
    """The source with a place for the pixel: before `</body>`, or at the end."""
    bodies = [
        piece for piece in pieces(masked(html)) if isinstance(piece, Tag) and piece.closing and piece.name == "body"
    ]
    at = bodies[-1].start if bodies else len(html)
    return html[:at] + PIXEL + html[at:]


def _shown_names(html: str, known: Collection[str]) -> frozenset[str]:
    """What stands outside comments, scripts and styles; owed is what a reader sees."""
    shown = "".join(html[piece.start : piece.end] for piece in pieces(masked(html)) if not isinstance(piece, Hidden))
    try:
        return check(shown, "", known, html=True)
    except InputError:  # a statement that begins in a comment and ends behind it
        return frozenset(_OWED)


def _require_text(txt: str, where: Path, known: Collection[str], *, bulk: bool) -> None:
    """What was made from HTML may fail to be a template where statements cross elements, or show no link of `area`."""
    try:
        asked = check(txt, str(where), known, html=False)
    except InputError:
        raise InputError(f"{where}: no plain text can be made from it; write message.txt beside it") from None
    for name in _OWED if bulk else ():
        if name not in asked:
            raise InputError(
                f"{where}: the plain text made from it lacks {{{{ {name} }}}}; write message.txt beside it"
            )


def _read(path: Path) -> str | None:
    """The text of a file with LF line ends; None where there is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 (octet {error.start})") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if "\0" in text:
        raise InputError(f"{path}: has a NUL in it")
    return text
