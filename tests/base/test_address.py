"""One person's address is found again however it is written; what is no address is refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.address import MAX_ADDRESS, MAX_LOCAL, normal_domain, parse_address

LOCALS = st.from_regex(r"[a-zA-Z0-9_+-]{1,20}(\.[a-zA-Z0-9_+-]{1,20})?", fullmatch=True)
DOMAINS = st.from_regex(r"[a-z0-9]{1,10}(-[a-z0-9]{1,10})?\.[a-z]{2,6}", fullmatch=True)


@given(LOCALS, DOMAINS, st.sampled_from(["", " ", "\t", "\n"]))
def test_the_key_does_not_depend_on_case_or_space(local: str, domain: str, space: str) -> None:
    plain = parse_address(f"{local}@{domain}")
    shouted = parse_address(f"{space}{local.upper()}@{domain.upper()}{space}")

    assert shouted.key == plain.key
    assert shouted.domain == domain


@given(LOCALS, DOMAINS)
def test_the_wire_keeps_the_local_part_as_it_was_given(local: str, domain: str) -> None:
    address = parse_address(f"{local}@{domain.upper()}")

    assert address.wire == f"{local}@{domain}"
    assert address.given == f"{local}@{domain.upper()}"


@given(st.text())
def test_any_text_is_an_address_that_parses_to_itself_or_is_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return

    assert parse_address(address.wire).key == address.key
    assert address.wire.isprintable()
    assert "@" not in address.local
    assert len(address.wire.encode()) <= MAX_ADDRESS


@given(DOMAINS | st.text(st.sampled_from("aZ09-.äßéИ中Ａ。 "), max_size=20))
def test_a_normal_domain_stays_as_it_is(text: str) -> None:
    try:
        domain = normal_domain(text)
    except ValueError:
        return

    assert normal_domain(domain) == domain
    assert domain.isascii()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Jo@Example.COM", "jo@example.com"),
        ("jo@exämple.de", "jo@xn--exmple-cua.de"),
        ("jo@EXÄMPLE.de", "jo@xn--exmple-cua.de"),
        ("jo@faß.de", "jo@xn--fa-hia.de"),
        ("jo@example.com.", "jo@example.com"),
        ("Jörg@example.com", "jörg@example.com"),
        ("o'neil+news@example.co.uk", "o'neil+news@example.co.uk"),
    ],
)
def test_the_key_of(text: str, key: str) -> None:
    assert parse_address(text).key == key


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no @"),
        ("example.com", "no @"),
        ("@example.com", "before the @"),
        ("a b@example.com", "before the @"),
        (".a@example.com", "before the @"),
        ("a..b@example.com", "before the @"),
        ('"a b"@example.com', "before the @"),
        ("a@b@example.com", "before the @"),
        ("a\r\nRCPT TO:<b@example.com", "before the @"),
        ("a\x00@example.com", "before the @"),
        ("a@localhost", "the domain 'localhost' is not valid"),
        ("a@-x.com", "the domain '-x.com' is not valid"),
        ("a@x..com", "the domain 'x..com' is not valid"),
        ("a@[192.0.2.1]", "is not valid"),
        ("a@exa mple.com", "is not valid"),
        ("a" * (MAX_LOCAL + 1) + "@example.com", "longer than 64"),
        ("a" * 60 + "@" + "b" * 60 + "." + "c" * 60 + "." + "d" * 60 + "." + "e" * 60 + ".com", "is not valid|longer"),
    ],
)
def test_what_is_no_address_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_address(text)
