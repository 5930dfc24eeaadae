"""What is left of an address once its owner had it erased: a hash that only our key can make. Pure.

    #1f0a7c22:9b0f…     '#', the first half of the key's own hash, ':', BLAKE2b of the address key

So a suppression outlives the address, nobody can try addresses against the table without the
key, and a wrong key is noticed instead of letting everybody back in.
"""

import hashlib
import re

from mtad.base.errors import ConfigError

_KEY = re.compile(r"[0-9a-fA-F]{64}")
_HASH = re.compile(r"#[0-9a-f]{8}:[0-9a-f]{32}")


class SuppressionKey:
    """The secret; it shows itself in no repr."""

    __slots__ = ("_secret", "mark")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        # By which key a hash was made.
        self.mark = "#" + hashlib.blake2b(secret, digest_size=4, person=b"mtad key mark").hexdigest() + ":"

    @classmethod
    def parse(cls, text: str, source: str) -> "SuppressionKey":
        """64 hex digits; ConfigError names the source, never the secret."""
        if not _KEY.fullmatch(text.strip()):
            raise ConfigError(f"{source}: write 64 hex digits, as `openssl rand -hex 32` makes them")
        return cls(bytes.fromhex(text.strip()))

    def hash(self, address_key: str) -> str:
        """What stands in `suppression.key` for an erased address."""
        digest = hashlib.blake2b(address_key.encode(), digest_size=16, key=self._secret, person=b"mtad suppress")
        return self.mark + digest.hexdigest()


def is_hash(text: str) -> bool:
    """Whether it could be one of ours."""
    return _HASH.fullmatch(text) is not None
