"""What a reader finds in a mail."""

from hypothesis import given
from hypothesis import strategies as st

from mtad.lab.letter import read_letter
from tests.lab.letters import BASE, LEAVE, PIXEL, letter


def test_a_mail_offers_its_pictures_its_links_and_a_way_to_leave() -> None:
    read = read_letter(letter(7))

    assert read.id == "<7@example.com>"
    assert read.subject.startswith("Grüße aus dem Labor")
    assert read.images == (PIXEL,)
    assert read.links == (f"{BASE}/c/one?a=1&b=2", f"{BASE}/c/two")
    assert read.one_click == LEAVE
    assert "plain text" in read.text


def test_without_the_post_header_there_is_no_one_click() -> None:
    read = read_letter(letter(one_click=False))

    assert read.one_click is None
    assert LEAVE in read.links


@given(st.binary(max_size=400))
def test_no_bytes_make_the_reader_fail(noise: bytes) -> None:
    whole = read_letter(noise)
    body = read_letter(b"Content-Type: text/html\r\n\r\n" + noise)

    assert whole.one_click is None
    assert all(link.lower().startswith("http") for link in body.links)
