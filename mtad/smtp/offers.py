"""What a server offers in its answer to EHLO (RFC 5321 section 4.1.1.1), and what it cannot take. Pure."""

from collections.abc import Collection
from functools import lru_cache

import msgspec

from mtad.smtp.reply import Reply


class Offers(msgspec.Struct, frozen=True):
    """The extensions that matter to us; without an argument: those of a server that knows HELO only.

    ENHANCEDSTATUSCODES is not among them: its codes are read wherever they stand, for
    many servers give them without offering it.
    """

    pipelining: bool = False  # RFC 2920
    chunking: bool = False  # RFC 3030
    starttls: bool = False  # RFC 3207
    auth_plain: bool = False  # RFC 4954, 4616
    eight_bit: bool = False  # RFC 6152
    utf8: bool = False  # RFC 6531
    size: bool = False  # RFC 1870
    most: int = 0  # octets of a message; 0: no limit is known

    def refusal(self, size: int, *, utf8: bool, eight_bit: bool) -> tuple[int, str, str] | None:
        """Code, enhanced code and words, in the server's name, for a message that it cannot take."""
        if 0 < self.most < size:
            return 552, "5.3.4", f"the message has {size} octets, the server takes {self.most}"
        if utf8 and not self.utf8:
            return 553, "5.6.7", "the address is not ASCII and the server does not offer SMTPUTF8"
        if eight_bit and not utf8 and not self.eight_bit:
            return 554, "5.6.3", "the message is not ASCII and the server does not offer 8BITMIME"
        return None


def offers_in(reply: Reply, ignored: Collection[str] = ()) -> Offers:
    """Keywords in any case, with their parameters; the first line is a greeting. `ignored`: as if not offered."""
    return _offers(reply, tuple(ignored))


@lru_cache(maxsize=64)  # a large provider says the same at each session; a reply has at most 32 KiB
def _offers(reply: Reply, ignored: tuple[str, ...]) -> Offers:
    pairs = (line.partition(" ") for line in reply.lines[1:])
    found = {keyword.upper(): parameters.strip() for keyword, _, parameters in pairs if keyword.upper() not in ignored}
    limit = found.get("SIZE", "")
    return Offers(
        pipelining="PIPELINING" in found,
        chunking="CHUNKING" in found,
        starttls="STARTTLS" in found,
        auth_plain="PLAIN" in found.get("AUTH", "").upper().split(),
        eight_bit="8BITMIME" in found,
        utf8="SMTPUTF8" in found,
        size="SIZE" in found,
        # A reply line has at most a kilobyte, so this is no number that takes long to read.
        most=int(limit) if limit.isascii() and limit.isdecimal() else 0,
    )
