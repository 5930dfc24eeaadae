"""Keys for DKIM: read, made, and shown as the DNS record to publish.

The algorithm follows from the key: RSA-SHA256, or Ed25519-SHA256 of RFC 8463. For RSA,
RFC 8301 section 3.2 asks signers for 2048 bits and verifiers for no more than 4096 at
least; what is outside is refused before a provider refuses the mail.
"""

import base64
import logging
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from nacl.signing import SigningKey

from mtad.base.errors import ConfigError
from mtad.dkim.multibuffer import LANES, Multibuffer, Wrong

log = logging.getLogger("mtad.dkim")

Key = RSAPrivateKey | SigningKey

BITS = 2048
_MOST_BITS = 4096
_PADDING = PKCS1v15()
_PREHASHED = Prehashed(SHA256())
# So many at once are cheaper than one after the other: eight lanes cost as much as four alone.
_WORTH = 5


def new_key() -> bytes:
    """A fresh RSA-2048 private key, PEM (PKCS #8, not encrypted)."""
    return _pem(generate_private_key(public_exponent=65537, key_size=BITS))


def new_ed25519_key() -> bytes:
    """A fresh Ed25519 private key, PEM (PKCS #8, not encrypted)."""
    return _pem(Ed25519PrivateKey.generate())


def _pem(key: RSAPrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(path: Path) -> Key:
    """The private key of a file; ConfigError in one line says what is wrong with it."""
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: DKIM key: {error.strerror}; `mtad init` makes one") from None
    try:
        return parse_key(pem)
    except ValueError as error:
        raise ConfigError(f"{path}: DKIM key: {error}") from None


def parse_key(pem: bytes) -> Key:
    """The private key in PEM; ValueError says what is wrong with it."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("is not an unencrypted private key in PEM") from None
    if isinstance(key, Ed25519PrivateKey):
        return SigningKey(key.private_bytes_raw())
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("is neither an RSA nor an Ed25519 key")  # noqa: TRY004 - the key is a value of the file
    if not BITS <= key.key_size <= _MOST_BITS:
        raise ValueError(f"has {key.key_size} bits; {BITS} to {_MOST_BITS} are accepted")
    return key


def algorithm(key: Key) -> str:
    """The a= of what this key signs."""
    return "ed25519-sha256" if isinstance(key, SigningKey) else "rsa-sha256"


def signature(key: Key, digest: bytes) -> bytes:
    """The signature over a SHA-256 digest; Ed25519 takes the digest for its message (RFC 8463 section 3)."""
    return key.sign(digest).signature if isinstance(key, SigningKey) else key.sign(digest, _PADDING, _PREHASHED)


def signatures(wanted: Sequence[tuple[Key, bytes]], multibuffer: Multibuffer | None) -> list[bytes]:
    """The signature over each digest with its key, those of RSA-2048 eight at once where `multibuffer` can."""
    if multibuffer is None:
        return [signature(key, digest) for key, digest in wanted]
    made: dict[int, bytes] = {}
    fit = [(at, key, digest) for at, (key, digest) in enumerate(wanted)
           if isinstance(key, RSAPrivateKey) and multibuffer.fits(key)]  # fmt: skip
    for first in range(0, len(fit), LANES):
        group = fit[first : first + LANES]
        if len(group) >= _WORTH:
            try:
                signed = multibuffer.signatures([(key, digest) for _, key, digest in group])
            except Wrong as error:
                log.error("signing one after the other", extra={"why": str(error)})  # noqa: TRY400 - one line is enough
                continue
            made |= zip((at for at, _, _ in group), signed, strict=True)
    return [made.get(at) or signature(key, digest) for at, (key, digest) in enumerate(wanted)]


def dns_record(key: Key) -> str:
    """The TXT record for <selector>._domainkey.<domain>, RFC 6376 section 3.6.1, RFC 8463 section 4.

    For RSA it is longer than 255 octets: a zone file splits it into several strings.
    """
    if isinstance(key, SigningKey):
        return f"v=DKIM1; k=ed25519; p={base64.b64encode(key.verify_key.encode()).decode()}"
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"
