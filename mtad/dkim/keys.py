"""RSA keys for DKIM: read, made, and shown as the DNS record to publish.

RFC 8301 section 3.2 asks signers for 2048 bits and verifiers for no more than
4096 at least; what is outside is refused before a provider refuses the mail.
"""

import base64
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from mtad.base.errors import ConfigError

BITS = 2048
_MOST_BITS = 4096


def new_key() -> bytes:
    """A fresh RSA-2048 private key, PEM (PKCS #8, not encrypted)."""
    key = generate_private_key(public_exponent=65537, key_size=BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(path: Path) -> RSAPrivateKey:
    """The private key of a file; ConfigError in one line says what is wrong with it."""
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: DKIM key: {error.strerror}; `mtad init` makes one") from None
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"{path}: DKIM key: is not an unencrypted private key in PEM") from None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError(f"{path}: DKIM key: is not an RSA key")
    if not BITS <= key.key_size <= _MOST_BITS:
        raise ConfigError(f"{path}: DKIM key: has {key.key_size} bits; {BITS} to {_MOST_BITS} are accepted")
    return key


def dns_record(key: RSAPrivateKey) -> str:
    """The TXT record for <selector>._domainkey.<domain>, RFC 6376 section 3.6.1.

    Longer than 255 octets: a zone file splits it into several strings.
    """
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"
