"""Eight signatures at once are the same eight signatures."""

import hashlib
import logging
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from nacl.signing import SigningKey

from mtad.dkim.keys import Key, signature, signatures
from mtad.dkim.multibuffer import LANES, Multibuffer, Wrong

RSA = [generate_private_key(65537, 2048) for _ in range(2)]
OTHERS: list[Key] = [generate_private_key(65537, 3072), generate_private_key(3, 2048), SigningKey.generate()]
FOUND = Multibuffer.found()
needs_lanes = pytest.mark.skipif(FOUND is None, reason="no crypto_mb, or a processor without AVX-512 IFMA")


def digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


class Counted(Multibuffer):
    """Has no library: notes how many were signed at once, and signs them one after the other."""

    def __init__(self, *, broken: bool = False) -> None:
        self._keys = {}
        self._broken = broken
        self.groups: list[int] = []

    def signatures(self, wanted: Sequence[tuple[RSAPrivateKey, bytes]]) -> list[bytes]:
        self.groups.append(len(wanted))
        if self._broken:
            raise Wrong("a signature does not verify")
        return [signature(key, each) for key, each in wanted]


@needs_lanes
@pytest.mark.parametrize("number", range(1, LANES + 1))
def test_they_equal_those_made_one_after_the_other(number: int) -> None:
    assert FOUND is not None
    wanted = [(RSA[at % 2], digest(at)) for at in range(number)]

    assert all(FOUND.fits(key) for key in RSA)
    assert FOUND.signatures(wanted) == [signature(key, each) for key, each in wanted]


@needs_lanes
def test_one_that_does_not_verify_is_never_given_out() -> None:
    broken = Multibuffer.found()
    assert broken is not None
    key = RSA[0]
    assert broken.fits(key)
    numbers = broken._keys[key]
    assert numbers is not None
    numbers.private[2][0] ^= 2

    with pytest.raises(Wrong):
        broken.signatures([(key, digest(at)) for at in range(LANES)])


@needs_lanes
def test_only_keys_of_2048_bits_and_the_usual_exponent_fit() -> None:
    assert FOUND is not None
    assert [FOUND.fits(key) for key in [*RSA, *OTHERS] if isinstance(key, RSAPrivateKey)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("number", "groups"), [(1, []), (4, []), (5, [5]), (8, [8]), (11, [8]), (13, [8, 5]), (16, [8, 8])]
)
def test_eight_go_together_and_few_go_alone(number: int, groups: list[int]) -> None:
    counted = Counted()

    signatures([(RSA[0], digest(at)) for at in range(number)], counted)

    assert counted.groups == groups


def test_keys_of_all_kinds_get_their_signatures_in_order() -> None:
    keys: list[Key] = [*RSA, *OTHERS, *RSA, *RSA]
    wanted = [(key, digest(at)) for at, key in enumerate(keys)]
    counted = Counted()

    made = signatures(wanted, counted)

    assert made == [signature(key, each) for key, each in wanted] == signatures(wanted, None)
    assert counted.groups == [6]


def test_what_cannot_be_signed_together_is_signed_alone_and_said(caplog: pytest.LogCaptureFixture) -> None:
    wanted = [(RSA[0], digest(at)) for at in range(LANES)]

    with caplog.at_level(logging.ERROR):
        made = signatures(wanted, Counted(broken=True))

    assert made == signatures(wanted, None)
    assert caplog.messages == ["signing one after the other"]
