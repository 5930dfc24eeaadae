"""The witness believes a good signature and no other."""

import re
from pathlib import Path

import dkim
import pytest

from mtad.base.config import Config, Dkim
from mtad.dkim.keys import new_ed25519_key, new_key, read_key
from mtad.dkim.sign import Identity, Signer
from mtad.lab.verify import Verifier, verify_all
from tests.lab.letters import letter

KEY = new_key()
COVERED = [b"From", b"To", b"Subject", b"List-Unsubscribe", b"List-Unsubscribe-Post"]


@pytest.fixture
def verifier(tmp_path: Path) -> Verifier:
    (tmp_path / "dkim.pem").write_bytes(KEY)
    config = Config(
        domain="example.com", dkim=(Dkim(domain="example.com", selector="s1", key="dkim.pem"),), folder=tmp_path
    )
    return Verifier.from_config(config)


def signed(message: bytes, *, key: bytes = KEY, names: list[bytes] = COVERED) -> bytes:
    field: bytes = dkim.sign(message, b"s1", b"example.com", key, include_headers=names)
    return field + message


def test_a_signed_mail_verifies_and_its_one_click_fields_are_covered(verifier: Verifier) -> None:
    verdict = verifier.verify(signed(letter()))

    assert (verdict.signed, verdict.one_click) == (True, True)


def test_of_several_signatures_each_must_verify(tmp_path: Path) -> None:
    identities = []
    for selector, key in (("s1", KEY), ("e1", new_ed25519_key())):
        (tmp_path / f"{selector}.pem").write_bytes(key)
        identities.append(Identity("example.com", selector, read_key(tmp_path / f"{selector}.pem")))
    tables = tuple(Dkim(domain="example.com", selector=one.selector, key=f"{one.selector}.pem") for one in identities)
    verifier = Verifier.from_config(Config(domain="example.com", dkim=tables, folder=tmp_path))
    head, _, body = letter().partition(b"\r\n\r\n")
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in re.split(rb"\r\n(?! )", head))]
    fields = Signer(identities).draft(headers, body, "example.com", 1_700_000_000, bulk=False).finished()

    assert verifier.verify(fields + letter()).signed
    assert not verifier.verify(fields.replace(b"s=s1", b"s=s2") + letter()).signed
    assert not verifier.verify(fields.replace(b"s=e1", b"s=s1") + letter()).signed


def test_a_signature_without_the_one_click_fields_is_told_apart(verifier: Verifier) -> None:
    verdict = verifier.verify(signed(letter(), names=COVERED[:3]))

    assert (verdict.signed, verdict.one_click) == (True, False)


def test_names_in_h_of_fields_that_are_not_there_cover_nothing(verifier: Verifier) -> None:
    verdict = verifier.verify(signed(letter(one_click=False)))

    assert (verdict.signed, verdict.one_click) == (True, False)


@pytest.mark.parametrize(
    "message",
    [
        letter(),
        signed(letter()).replace(b"plain text", b"plain test"),
        signed(letter()).replace(b"To: ada", b"To: bob"),
        signed(letter(), key=new_key()),
        signed(letter()).replace(b"s=s1", b"s=s2"),
        b"",
    ],
    ids=["unsigned", "other body", "other header", "other key", "unknown selector", "nothing"],
)
def test_whatever_else_is_not_believed(verifier: Verifier, message: bytes) -> None:
    verdict = verifier.verify(message)

    assert (verdict.signed, verdict.one_click) == (False, False)


async def test_many_are_judged_in_other_processes_and_in_order(verifier: Verifier) -> None:
    good, bad = signed(letter()), letter()
    verdicts = await verify_all(verifier, [good, bad] * 40, processes=1)

    assert [verdict.signed for verdict in verdicts] == [True, False] * 40
