"""A journal that is cut or damaged anywhere loses the record that was hit, and no other."""

from hypothesis import given
from hypothesis import strategies as st

from tests.tracker.made import hit
from tracker.hits import Hit, Kind, Method
from tracker.journal import HEADER, MAGIC, MAX_PAYLOAD, decode, encode, may_be_torn

hits = st.builds(
    hit,
    st.sampled_from(Kind),
    at=st.floats(0, 1e6),
    job=st.integers(0, 2**63 - 1),
    link=st.integers(0, 2**31 - 1),
    method=st.sampled_from(Method),
    agent=st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    network=st.none() | st.just("2001:db8::/48"),
)
FIVE = [hit(link=n) for n in range(5)]
RECORDS = [encode(one) for one in FIVE]
JOURNAL = b"".join(RECORDS)


@given(st.lists(hits, max_size=5))
def test_what_was_written_is_read(written: list[Hit]) -> None:
    data = b"".join(encode(one) for one in written)

    decoded = decode(data)

    assert (decoded.hits, decoded.end, decoded.bad) == (written, len(data), 0)


def test_a_cut_at_any_byte_loses_only_the_torn_record() -> None:
    for cut in range(len(JOURNAL) + 1):
        whole = 0
        while sum(map(len, RECORDS[: whole + 1])) <= cut and whole < 5:
            whole += 1

        decoded = decode(JOURNAL[:cut])

        assert decoded.hits == FIVE[:whole], cut
        assert decoded.end == sum(map(len, RECORDS[:whole]))
        assert decoded.bad == 0
        assert may_be_torn(JOURNAL[decoded.end : cut])


@given(st.integers(0, len(JOURNAL) - 1), st.integers(1, 255))
def test_a_damaged_byte_loses_only_its_own_record(place: int, flip: int) -> None:
    damaged = bytearray(JOURNAL)
    damaged[place] ^= flip
    ends = [sum(map(len, RECORDS[: n + 1])) for n in range(5)]
    victim = next(n for n, end in enumerate(ends) if place < end)

    decoded = decode(bytes(damaged))

    assert decoded.hits == FIVE[:victim] + FIVE[victim + 1 :]
    # Behind damage to the last record nothing is found; only with a greater length it looks torn.
    assert decoded.bad == (1 if victim < 4 else 0)
    if victim == 4:
        length = range(ends[3] + len(MAGIC), ends[3] + len(MAGIC) + 4)
        assert place in length or not may_be_torn(bytes(damaged[decoded.end :]))


@given(st.binary(max_size=300))
def test_garbage_between_records_is_passed_over(garbage: bytes) -> None:
    decoded = decode(RECORDS[0] + garbage + RECORDS[1])

    assert [one for one in decoded.hits if one in FIVE] == FIVE[:2]


def test_an_announced_length_beyond_reason_is_damage() -> None:
    absurd = HEADER.pack(MAGIC, MAX_PAYLOAD + 1, 0)

    assert decode(absurd + JOURNAL).hits == FIVE


def test_reading_in_pieces_reads_the_same() -> None:
    found: list[Hit] = []
    offset = 0
    while piece := decode(JOURNAL, offset, most=2).hits:
        found += piece
        offset = decode(JOURNAL, offset, most=2).end

    assert found == FIVE
