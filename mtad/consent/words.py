"""What a form says, as its file and each of its versions have it. Pure."""

from typing import Literal

import msgspec

# The class of mails that ask to confirm.
TRANSACTIONAL = 0


class FormWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a form says. Its words are part of the proof, so they are kept version by version."""

    name: str
    """Stands in its address: small letters, digits, hyphens."""
    stream: str
    """What people sign up to."""
    language: Literal["en", "de", "ru"] = "en"
    """Of the page, of the mail that asks to confirm, and of whoever signs up."""
    title: str = ""
    """Heading of the page; '' is "Subscribe to" and the stream's title."""
    text: str = ""
    """A sentence or two below it."""
    consent: str
    """What people agree to: the words that the proof keeps."""
    measuring: str = ""
    """What they may agree to beside it, with a box of its own: that their opens and clicks are measured."""
    message: str = ""
    """Folder, beside the file, of the mail that asks to confirm; '' is a plain one of ours."""
