"""Eight RSA-2048 signatures at once, where processor and library can.

Intel's crypto_mb computes eight private operations side by side in the lanes of AVX-512
IFMA (Intel since Ice Lake, AMD since Zen 4): 128 µs a signature where OpenSSL takes 253.
It comes with the extra `mtad[multibuffer]`; without it, or on another processor, nothing
changes but the speed. Its arithmetic takes the same time whatever the key; that it was
right is checked with the public key before a signature is used, because one wrong
signature by the Chinese remainder theorem would give the key away.
"""

import ctypes
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

BITS = 2048
LANES = 8

_OCTETS = BITS // 8
_EXPONENT = 65537
_ALGORITHM = 1  # MBX_ALGO_RSA_2K
# The libraries that crypto_mb is linked with, each after those that it needs itself.
_NEEDED = ("libintlc.so.5", "libirng.so", "libimf.so", "libsvml.so")
# RFC 8017 section 9.2: DigestInfo of SHA-256.
_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
_PREFIX = b"\0\1" + b"\xff" * (_OCTETS - 3 - len(_DIGEST_INFO) - 32) + b"\0" + _DIGEST_INFO

_Addresses = ctypes.c_void_p * LANES


class Wrong(Exception):
    """A signature that its own public key does not verify, or that the library did not make."""


_Buffer = ctypes.Array[ctypes.c_char]
_Number = ctypes.Array[ctypes.c_uint64]


class _Numbers:
    """One key as the library wants it: numbers of 64-bit words, the lowest first."""

    def __init__(self, key: RSAPrivateKey) -> None:
        numbers = key.private_numbers()
        half = BITS // 2
        self.private = [
            _words(number, half) for number in (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
        ]
        self.modulus = _words(numbers.public_numbers.n, BITS)


class Multibuffer:
    """Signs PKCS #1 v1.5 over SHA-256 digests, up to eight at a time; not for several threads."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """`library` is crypto_mb, on a processor that can."""
        self._sign = _Operation(library, "mbx_rsa_private_crt_mb8", "mbx_RSA2K_private_crt_Method", numbers=5)
        self._open = _Operation(library, "mbx_rsa_public_mb8", "mbx_RSA2K_pub65537_Method", numbers=1)
        self._padded, self._signed, self._opened = (
            [ctypes.create_string_buffer(_OCTETS) for _ in range(LANES)] for _ in range(3)
        )
        self._keys: dict[RSAPrivateKey, _Numbers | None] = {}  # None: does not fit

    @classmethod
    def found(cls) -> "Multibuffer | None":
        """None where it is not installed, or the processor has no such lanes."""
        try:
            library = _loaded()
        except (PackageNotFoundError, OSError):
            return None
        library.mbx_get_algo_info.restype = ctypes.c_uint64
        return cls(library) if library.mbx_get_algo_info(_ALGORITHM) else None

    def fits(self, key: RSAPrivateKey) -> bool:
        """Whether it can sign with this key."""
        if key not in self._keys:
            fits = key.key_size == BITS and key.public_key().public_numbers().e == _EXPONENT
            self._keys[key] = _Numbers(key) if fits else None
        return self._keys[key] is not None

    def signatures(self, wanted: Sequence[tuple[RSAPrivateKey, bytes]]) -> list[bytes]:
        """The signatures over up to eight digests, each with a key that fits; Wrong when one does not verify."""
        keys = [numbers for key, _ in wanted if (numbers := self._keys[key])]
        for buffer, (_, digest) in zip(self._padded, wanted, strict=False):
            buffer.raw = _PREFIX + digest
        count = len(wanted)
        padded, signed, opened = (buffers[:count] for buffers in (self._padded, self._signed, self._opened))
        self._sign(padded, signed, [key.private for key in keys])
        self._open(signed, opened, [[key.modulus] for key in keys])
        if any(one.raw != other.raw for one, other in zip(opened, padded, strict=True)):
            raise Wrong("crypto_mb: a signature does not verify")
        return [buffer.raw for buffer in signed]


class _Operation:
    """One of the library's functions over eight lanes, with its method and the memory that it works in."""

    def __init__(self, library: ctypes.CDLL, function: str, method: str, *, numbers: int) -> None:
        chosen = library[method]
        chosen.restype = ctypes.c_void_p
        self._method = chosen()
        size = library.mbx_RSA_Method_BufSize
        size.argtypes = [ctypes.c_void_p]
        self._memory = ctypes.create_string_buffer(size(self._method))
        self._name = function
        self._function = library[function]
        self._function.restype = ctypes.c_uint32
        self._function.argtypes = [*[_Addresses] * (2 + numbers), ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]

    def __call__(self, source: list[_Buffer], target: list[_Buffer], numbers: Sequence[Sequence[_Number]]) -> None:
        """From `source` to `target`, with the numbers of each lane; Wrong when the library refuses one."""
        columns = [source, target, *zip(*numbers, strict=True)]
        arrays = [_Addresses(*map(ctypes.addressof, column)) for column in columns]
        # Four bits a lane; a lane without addresses reports a null pointer.
        status = self._function(*arrays, BITS, self._method, self._memory)
        if status & ((1 << 4 * len(source)) - 1):
            raise Wrong(f"crypto_mb: {self._name}: status {status:08x}")


def _words(number: int, bits: int) -> _Number:
    octets = number.to_bytes(bits // 8, "little")
    return (ctypes.c_uint64 * (bits // 64)).from_buffer_copy(octets)


def _loaded() -> ctypes.CDLL:
    """The library and what it needs, from where pip laid them; PackageNotFoundError, OSError."""
    places = {
        path.name: Path(str(path.locate()))
        for package in ("intel-cmplr-lib-rt", "ipp-crypto")
        for path in files(package) or ()
    }
    for name in _NEEDED:
        if name in places:
            ctypes.CDLL(str(places[name]), mode=ctypes.RTLD_GLOBAL)
    if "libcrypto_mb.so" not in places:
        raise OSError("ipp-crypto: no libcrypto_mb.so")
    return ctypes.CDLL(str(places["libcrypto_mb.so"]))
