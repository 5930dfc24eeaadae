"""One message, compiled: the templates of its parts, its links, and the frame around what they say."""

import msgspec
from jinja2 import Template

from mtad.compose import mime, store
from mtad.compose.folder import PIXEL
from mtad.compose.links import CALL
from mtad.compose.template import compiled, compiled_html, compiled_text
from mtad.compose.text import has_marks

_TXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"

# What stands for the pixel in a template; in a message that nobody may be measured with, nothing.
_PIXEL = (
    '{% if mtad_pixel %}<img src="{{ mtad_pixel }}" width="1" height="1" alt=""'
    ' style="display:block;width:1px;height:1px;border:0">{% endif %}'
)


class Quoted(msgspec.Struct, frozen=True):
    """What is rendered for one contact; the parts are quoted-printable, their last lines not ended yet."""

    subject: str
    html: str | None
    txt: str | None


class Message:
    """The templates of one message, compiled."""

    def __init__(self, stored: store.Stored) -> None:
        parts = stored.parts
        # Made text may begin and end with empty lines, which HTML would not show.
        txt = parts.txt.strip() if parts.made and parts.txt is not None else parts.txt
        self.subject = compiled(parts.subject)
        self.html: Template | None = None if parts.html is None else compiled_html(_with_pixel(parts.html))
        self.txt: Template | None = None if txt is None else compiled_text(txt)
        self.settles = parts.made and txt is not None and has_marks(txt)
        sources = [part for part in (parts.html, txt) if part is not None]
        # A mail that asks to confirm measures nobody and is on no list; a token of its own costs 2 µs.
        self.confirms = any("confirm_url" in source for source in sources)
        self.prefers = any("preferences_url" in source for source in sources)
        self.links = {
            position: (link, url)
            for position, link, url in zip(stored.positions, stored.link_ids, stored.urls, strict=True)
        }
        # Those that no values stand behind, by their names in the template. The pixel has no destination.
        self.fixed = [(f"{CALL}_{at}", link, url) for at, (link, url) in self.links.items() if url and "{0}" not in url]
        self.boundary = f"=_mtad.{stored.id}"
        if self.html is not None and self.txt is not None:
            kind = f'multipart/alternative; boundary="{self.boundary}"'
            self.headers = [(b"Content-Type", kind.encode())]
        else:
            kind = _TXT if self.html is None else _HTML
            self.headers = [(b"Content-Type", kind.encode()), (b"Content-Transfer-Encoding", b"quoted-printable")]

    def body(self, quoted: Quoted) -> bytes:
        """Both parts, or the one that there is."""
        if quoted.txt is None or quoted.html is None:
            return mime.ended(quoted.txt or quoted.html or "").encode("ascii")
        parts = [(_TXT, mime.ended(quoted.txt)), (_HTML, mime.ended(quoted.html))]
        return mime.alternative(self.boundary, parts).encode("ascii")


def _with_pixel(html: str) -> str:
    return _PIXEL.join(html.rsplit(PIXEL, 1))
