"""Signatures, with dkimpy as the second opinion."""

import re
from functools import cache
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from mtad.base.config import Config, Dkim
from mtad.base.errors import ConfigError
from mtad.dkim.keys import dns_record, new_key, read_key
from mtad.dkim.sign import BULK_NEEDS, SIGNED, Identity, NotCovered, Signer

Headers = list[tuple[bytes, bytes]]


@cache
def identity(domain: str = "example.com") -> Identity:
    key = load_pem_private_key(new_key(), password=None)
    return Identity(domain, "s1", key)  # type: ignore[arg-type]


def signer() -> Signer:
    return Signer([identity()])


def verified(message: bytes) -> bool:
    def dnsfunc(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"s1._domainkey.example.com."
        return dns_record(identity().key).encode()

    return bool(dkim.verify(message, dnsfunc=dnsfunc))


def wire(signature: bytes, headers: Headers, body: bytes) -> bytes:
    return signature + b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"\r\n" + body


def bulk_headers() -> Headers:
    return [(name.encode(), b"value of " + name.lower().encode()) for name in BULK_NEEDS]


def signed_names(signature: bytes) -> list[str]:
    match = re.search(rb"h=([^;]*);", signature)
    assert match
    return re.sub(rb"\s", b"", match[1]).decode().split(":")


words = st.text(alphabet=" \tabcXYZ=;:.,<>@\"'?éß€", max_size=30)


@st.composite
def header_values(draw: st.DrawFn) -> bytes:
    """Folded values: words at the start of each line, so that no line is blank."""
    lines = draw(st.lists(words, min_size=1, max_size=4))
    return b"\r\n ".join(b"x" + line.encode() for line in lines)


bodies = st.lists(
    st.one_of(st.sampled_from([b"", b" ", b"\t", b"  x\t y  ", b"=20", b"."]), st.binary(max_size=20)), max_size=12
).map(lambda lines: b"".join(re.sub(rb"[\r\n\0]", b"", line) + b"\r\n" for line in lines))


@settings(max_examples=150, deadline=None)
@given(values=st.lists(header_values(), min_size=len(SIGNED), max_size=len(SIGNED)), body=bodies, extra=header_values())
def test_whatever_is_signed_verifies(values: list[bytes], body: bytes, extra: bytes) -> None:
    headers = [(name.encode(), value) for name, value in zip(SIGNED, values, strict=True)]
    headers.append((b"X-Other", extra))

    signature = signer().sign(headers, body, "example.com", 1_700_000_000)

    assert verified(wire(signature, headers, body))


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, len(BULK_NEEDS) - 1))
def test_a_changed_or_added_header_breaks_the_signature(at: int) -> None:
    headers, body = bulk_headers(), b"Hello\r\n"
    signature = signer().sign(headers, body, "example.com", 1_700_000_000)
    name, value = headers[at]

    changed = [*headers[:at], (name, value + b"!"), *headers[at + 1 :]]
    assert verified(wire(signature, headers, body))
    assert not verified(wire(signature, changed, body))
    assert not verified(wire(signature, [(name, b"another"), *headers], body))
    assert not verified(wire(signature, [*headers, (name, b"another")], body))


def test_a_header_of_the_list_that_is_absent_cannot_be_added() -> None:
    signature = signer().sign(bulk_headers(), b"Hello\r\n", "example.com", 1_700_000_000)

    assert not verified(wire(signature, [*bulk_headers(), (b"Reply-To", b"evil@example.net")], b"Hello\r\n"))


def test_nothing_can_be_appended_to_the_body() -> None:
    signature = signer().sign(bulk_headers(), b"Hello\r\n", "example.com", 1_700_000_000)

    assert b"l=" not in signature.replace(b"\r\n\t", b"").split(b"bh=")[0]
    assert not verified(wire(signature, bulk_headers(), b"Hello\r\nmore\r\n"))


@pytest.mark.parametrize("missing", BULK_NEEDS)
def test_a_bulk_mail_whose_signature_would_not_cover_a_header_is_refused(missing: str) -> None:
    headers = [header for header in bulk_headers() if header[0] != missing.encode()]

    with pytest.raises(NotCovered, match=missing.lower()):
        signer().sign(headers, b"Hello\r\n", "example.com", 1_700_000_000)


@pytest.mark.parametrize("needed", BULK_NEEDS)
def test_every_needed_header_is_oversigned(needed: str) -> None:
    signature = signer().sign(bulk_headers(), b"Hello\r\n", "example.com", 1_700_000_000)

    assert signed_names(signature).count(needed.lower()) == 2


def test_a_signature_is_folded_only_where_blanks_mean_nothing() -> None:
    signature = signer().sign(bulk_headers(), b"Hello\r\n", "example.com", 1_700_000_000)

    lines = signature.split(b"\r\n")
    assert all(len(line) <= 78 for line in lines)
    assert all(line.endswith((b":", b";")) for line in lines if b"from" in line)
    assert set(signed_names(signature)) == {name.lower() for name in SIGNED}


def test_the_nearest_identity_signs() -> None:
    key = identity().key
    signer = Signer([Identity("example.com", "top", key), Identity("news.example.com", "sub", key)])

    chosen = {
        domain: getattr(signer.identity_for(domain), "selector", None)
        for domain in ("example.com", "Shop.Example.com", "news.example.com", "a.news.example.com", "badexample.com")
    }

    assert chosen == {
        "example.com": "top",
        "Shop.Example.com": "top",
        "news.example.com": "sub",
        "a.news.example.com": "sub",
        "badexample.com": None,
    }


def test_a_sender_without_a_key_is_refused() -> None:
    with pytest.raises(NotCovered, match=r"example\.net"):
        signer().sign(bulk_headers(), b"Hello\r\n", "example.net", 1_700_000_000)


def test_a_missing_key_file_is_one_clear_line(tmp_path: Path) -> None:
    config = Config(domain="example.com", dkim=(Dkim(domain="example.com", selector="s", key="gone.pem"),))

    with pytest.raises(ConfigError, match=r"^[^\n]*gone\.pem: DKIM key: No such file[^\n]*$"):
        Signer.from_config(config)


def test_a_file_that_is_no_key_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.pem"
    path.write_text("not a key")

    with pytest.raises(ConfigError, match=r"^[^\n]*bad\.pem: DKIM key: is not an unencrypted private key[^\n]*$"):
        read_key(path)


def test_a_new_key_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "good.pem"
    path.write_bytes(new_key())

    assert read_key(path).key_size == 2048
    assert len(dns_record(read_key(path))) > 300
