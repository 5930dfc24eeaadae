"""Signatures, with dkimpy as the second opinion, and a verifier written from the RFCs as the third."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

import dkim
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mtad.base.config import Config, Dkim
from mtad.base.errors import ConfigError
from mtad.dkim.canon import relaxed_body
from mtad.dkim.keys import dns_record, new_ed25519_key, new_key, parse_key, read_key
from mtad.dkim.sign import BULK_NEEDS, SIGNED, Identity, NotCovered, Signer

Headers = list[tuple[bytes, bytes]]


@cache
def identity(selector: str = "s1") -> Identity:
    """The key of s1 is RSA, that of e1 Ed25519."""
    return Identity("example.com", selector, parse_key(new_key() if selector == "s1" else new_ed25519_key()))


def signer(*selectors: str) -> Signer:
    return Signer([identity(selector) for selector in selectors or ("s1", "e1")])


def dnsfunc(name: bytes, timeout: int = 5) -> bytes:
    return dns_record(identity(name.removesuffix(b"._domainkey.example.com.").decode()).key).encode()


def fields_of(message: bytes) -> list[bytes]:
    """The DKIM-Signature fields, from the top, without their last CRLF."""
    head = message.partition(b"\r\n\r\n")[0]
    fields = re.split(rb"\r\n(?![ \t])", head)
    return [field for field in fields if field.lower().startswith(b"dkim-signature:")]


def verified(message: bytes) -> bool:
    """Whether every signature of it verifies, and there is one; dkimpy must say the same of each as `verifies`."""
    said = []
    for number in range(len(fields_of(message))):
        try:
            said.append(bool(dkim.DKIM(message).verify(number, dnsfunc=dnsfunc)))
        except dkim.DKIMException:
            said.append(False)
    assert said == [verifies(message, field) for field in fields_of(message)]
    return bool(said) and all(said)


def verifies(message: bytes, field: bytes) -> bool:
    """One signature after RFC 6376 section 6.1.3 and RFC 8463 section 3, with nothing of mtad.dkim.sign."""

    def relaxed(header: bytes) -> bytes:
        name, _, value = header.partition(b":")
        flat = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip(b" ")
        return name.strip(b" \t").lower() + b":" + flat

    tags = dict(re.findall(r"(\w+)=([^;]*)", re.sub(r"\s", "", field.partition(b":")[2].decode())))
    head, _, body = message.partition(b"\r\n\r\n")
    if base64.b64encode(hashlib.sha256(relaxed_body(body)).digest()).decode() != tags["bh"]:
        return False
    headers = re.split(rb"\r\n(?![ \t])", head)
    hashed = []
    for name in tags["h"].split(":"):
        matching = [at for at, header in enumerate(headers) if header.partition(b":")[0].lower() == name.encode()]
        if matching:
            hashed.append(relaxed(headers.pop(matching[-1])) + b"\r\n")
    hashed.append(re.sub(rb"(?<=b=)[^;]*$", b"", relaxed(field)))
    data = b"".join(hashed)
    record = dns_record(identity(tags["s"]).key)
    public = base64.b64decode(record.partition("; p=")[2])
    try:
        if tags["a"] == "ed25519-sha256":
            assert "k=ed25519;" in record
            key = ed25519.Ed25519PublicKey.from_public_bytes(public)
            key.verify(base64.b64decode(tags["b"]), hashlib.sha256(data).digest())
        else:
            assert tags["a"] == "rsa-sha256"
            other = load_der_public_key(public)
            assert isinstance(other, rsa.RSAPublicKey)
            other.verify(base64.b64decode(tags["b"]), data, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


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

    signature = signer().draft(headers, body, "example.com", 1_700_000_000).finished()

    assert verified(wire(signature, headers, body))


def test_a_mail_is_signed_over_its_own_headers_whatever_those_before_it_had() -> None:
    same, body = signer("e1"), b"Hello\r\n"
    first, second = bulk_headers(), [(name, value.upper()) for name, value in bulk_headers()]
    mixed = [*first[:4], *second[4:]]

    for headers in (first, second, first, mixed, second):
        assert verified(wire(same.draft(headers, body, "example.com", 1_700_000_000).finished(), headers, body))


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, len(BULK_NEEDS) - 1))
def test_a_changed_or_added_header_breaks_the_signature(at: int) -> None:
    headers, body = bulk_headers(), b"Hello\r\n"
    signature = signer().draft(headers, body, "example.com", 1_700_000_000).finished()
    name, value = headers[at]

    changed = [*headers[:at], (name, value + b"!"), *headers[at + 1 :]]
    assert verified(wire(signature, headers, body))
    assert not verified(wire(signature, changed, body))
    assert not verified(wire(signature, [(name, b"another"), *headers], body))
    assert not verified(wire(signature, [*headers, (name, b"another")], body))


def test_a_header_of_the_list_that_is_absent_cannot_be_added() -> None:
    signature = signer().draft(bulk_headers(), b"Hello\r\n", "example.com", 1_700_000_000).finished()

    assert not verified(wire(signature, [*bulk_headers(), (b"Reply-To", b"evil@example.net")], b"Hello\r\n"))


def test_nothing_can_be_appended_to_the_body() -> None:
    signature = signer().draft(bulk_headers(), b"Hello\r\n", "example.com", 1_700_000_000).finished()

    assert b"l=" not in signature.replace(b"\r\n\t", b"").split(b"bh=")[0]
    assert not verified(wire(signature, bulk_headers(), b"Hello\r\nmore\r\n"))


@pytest.mark.parametrize("missing", BULK_NEEDS)
def test_a_bulk_mail_whose_signature_would_not_cover_a_header_is_refused(missing: str) -> None:
    headers = [header for header in bulk_headers() if header[0] != missing.encode()]

    with pytest.raises(NotCovered, match=missing.lower()):
        signer().draft(headers, b"Hello\r\n", "example.com", 1_700_000_000).finished()


@pytest.mark.parametrize("needed", BULK_NEEDS)
def test_every_needed_header_is_oversigned(needed: str) -> None:
    signature = signer().draft(bulk_headers(), b"Hello\r\n", "example.com", 1_700_000_000).finished()

    assert signed_names(signature).count(needed.lower()) == 2


def test_a_signature_is_folded_only_where_blanks_mean_nothing() -> None:
    signature = signer().draft(bulk_headers(), b"Hello\r\n", "example.com", 1_700_000_000).finished()

    lines = signature.split(b"\r\n")
    assert all(len(line) <= 78 for line in lines)
    assert all(line.endswith((b":", b";")) for line in lines if b"from" in line)
    assert set(signed_names(signature)) == {name.lower() for name in SIGNED}


@pytest.mark.parametrize(
    ("selectors", "algorithms"),
    [
        (["s1"], ["rsa-sha256"]),
        (["e1"], ["ed25519-sha256"]),
        (["s1", "e1"], ["ed25519-sha256", "rsa-sha256"]),
        (["e1", "s1"], ["ed25519-sha256", "rsa-sha256"]),
    ],
)
def test_each_key_of_the_domain_signs_and_ed25519_stands_above(selectors: list[str], algorithms: list[str]) -> None:
    signature = signer(*selectors).draft(bulk_headers(), b"Hello\r\n", "example.com", 1_700_000_000).finished()

    message = wire(signature, bulk_headers(), b"Hello\r\n")
    assert re.findall(r"a=([\w-]+)", signature.decode()) == algorithms
    assert verified(message)
    for field in fields_of(message):
        assert verified(message.replace(field + b"\r\n", b"")) == (len(selectors) > 1)


@given(body=st.lists(st.sampled_from([b"", b"a b", b" c", b"d=", b"."]), max_size=8).map(b"\r\n".join))
def test_a_body_that_is_canonical_already_is_signed_alike(body: bytes) -> None:
    body += b"\r\n"

    plain, canonical = (
        signer("e1").draft(bulk_headers(), body, "example.com", 1_700_000_000, canonical=known).finished()
        for known in (False, True)
    )

    assert canonical == plain


def test_the_nearest_identities_sign() -> None:
    key = identity().key
    signer = Signer(
        [
            Identity("example.com", "top", key),
            Identity("news.example.com", "sub", key),
            Identity("news.example.com", "sub2", identity("e1").key),
        ]
    )

    chosen = {
        domain: [identity.selector for identity in signer.identities_for(domain)]
        for domain in ("example.com", "Shop.Example.com", "news.example.com", "a.news.example.com", "badexample.com")
    }

    assert chosen == {
        "example.com": ["top"],
        "Shop.Example.com": ["top"],
        "news.example.com": ["sub2", "sub"],
        "a.news.example.com": ["sub2", "sub"],
        "badexample.com": [],
    }


def selectors(signature: bytes) -> list[str]:
    return re.findall(r"\bs=(\w+);", signature.decode())


def test_the_next_key_takes_over_at_its_time_and_not_before() -> None:
    signer = Signer([
        Identity("example.com", "old", identity().key),
        Identity("example.com", "next", identity().key, starts=1_000.0),
        Identity("example.com", "ed", identity("e1").key),
    ])  # fmt: skip

    signed = {
        now: selectors(signer.draft(bulk_headers(), b"Hello\r\n", "example.com", now).finished())
        for now in (998, 999, 1_000, 1_001)
    }

    assert signed == {998: ["ed", "old"], 999: ["ed", "old"], 1_000: ["ed", "next"], 1_001: ["ed", "next"]}


def test_a_key_that_names_streams_signs_for_them_in_place_of_the_others() -> None:
    signer = Signer([
        Identity("example.com", "all", identity().key),
        Identity("example.com", "news", identity().key, streams=("news",)),
        Identity("shop.example.com", "shop", identity().key, streams=("shop",)),
    ])  # fmt: skip

    signed = {
        (domain, stream): selectors(signer.draft(bulk_headers(), b"Hello\r\n", domain, 1, stream=stream).finished())
        for domain in ("example.com", "shop.example.com")
        for stream in ("news", "shop")
    }

    assert signed == {
        ("example.com", "news"): ["news"],
        ("example.com", "shop"): ["all"],
        ("shop.example.com", "news"): ["news"],
        ("shop.example.com", "shop"): ["shop"],
    }


@pytest.mark.parametrize(
    ("return_domain", "signed"),
    [
        ("bounce.example.com", ["s1"]),
        ("bounce.relay.example", ["s1", "relay"]),
        ("elsewhere.example", ["s1"]),
        ("", ["s1"]),
    ],
)
def test_a_return_path_of_another_domain_is_signed_for_too_where_there_is_a_key(
    return_domain: str, signed: list[str]
) -> None:
    signer = Signer([identity(), Identity("relay.example", "relay", identity().key)])

    signature = signer.draft(bulk_headers(), b"Hello\r\n", "example.com", 1, return_domain=return_domain).finished()

    assert selectors(signature) == signed


def test_two_keys_of_a_kind_that_start_together_are_refused_in_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(new_key())
    key = str(tmp_path / "key.pem")
    config = Config(
        domain="example.com", dkim=tuple(Dkim(domain="example.com", selector=name, key=key) for name in ("a", "b"))
    )

    with pytest.raises(ConfigError, match=r"^dkim: example\.com: 2 keys of rsa-sha256 start at the same time[^\n]*$"):
        Signer.from_config(config)


def test_a_sender_without_a_key_is_refused() -> None:
    with pytest.raises(NotCovered, match=r"example\.net"):
        signer().draft(bulk_headers(), b"Hello\r\n", "example.net", 1_700_000_000).finished()


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
    key = read_key(path)

    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048
    assert len(dns_record(key)) > 300
    path.write_bytes(new_ed25519_key())
    # RFC 8463 section 4.2: the 32 octets themselves, without ASN.1.
    assert re.fullmatch(r"v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=", dns_record(read_key(path)))


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pem(rsa.generate_private_key(65537, 1024)), "has 1024 bits; 2048 to 4096 are accepted"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "is neither an RSA nor an Ed25519 key"),
    ],
)
def test_another_kind_of_key_is_refused_in_one_clear_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "other.pem"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=rf"^[^\n]*other\.pem: DKIM key: {said}$"):
        read_key(path)
