"""Mail addresses: what was given, and the key under which one person's address is found again.

RFC 5321 section 4.1.2 with the limits of 4.5.3.1. Pure.
"""

import re
from functools import lru_cache

import idna
import msgspec

# RFC 5321 section 4.5.3.1.1 and .2; a path is 256 octets with its brackets.
MAX_LOCAL = 64
MAX_DOMAIN = 255
MAX_ADDRESS = 254

# Dot-atom (RFC 5322 section 3.2.3) plus non-ASCII (RFC 6531). Quoted local parts
# are legal and refused: no mailbox of the last decades needs one, and every
# second parser on the way reads them differently.
_LOCAL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
    r"(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+)*"
)
_ASCII_DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))+")


class Address(msgspec.Struct, frozen=True):
    """One mailbox.

    `given` is the text as it came (trimmed); `wire` goes into RCPT: the local part
    as given at the ASCII domain; `key` folds the local part too and is for
    comparing only, because only the receiving server knows whether case matters.
    """

    given: str
    local: str
    domain: str

    @property
    def wire(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        return f"{self.local.casefold()}@{self.domain}"


def parse_address(text: str) -> Address:
    """Read one address; ValueError says in one clause what is wrong with it."""
    given = text.strip()
    local, at, domain = given.rpartition("@")
    if not at:
        raise ValueError("no @ in it")
    if not _LOCAL.fullmatch(local):
        raise ValueError("the part before the @ is not valid")
    if len(local.encode()) > MAX_LOCAL:
        raise ValueError(f"the part before the @ is longer than {MAX_LOCAL} octets")
    ascii_domain = normal_domain(domain)
    if len(local.encode()) + 1 + len(ascii_domain) > MAX_ADDRESS:
        raise ValueError(f"longer than {MAX_ADDRESS} octets")
    return Address(given, local, ascii_domain)


@lru_cache(4096)  # of a list, most addresses are at a few domains; a name is short, or refused
def normal_domain(text: str) -> str:
    """A domain in lower case and ASCII (IDNA 2008, UTS 46 mapping); ValueError when it is none."""
    domain = text.strip().rstrip(".").lower()
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise ValueError(f"the domain {text!r} is not valid: {error}") from None
    if len(domain) > MAX_DOMAIN or not _ASCII_DOMAIN.fullmatch(domain):
        raise ValueError(f"the domain {text!r} is not valid")
    return domain
