"""UUIDv7: RFC 9562 section 5.7; and Message-IDs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.ids import message_id, read_message_id, unix_ms_of, uuid7

TIMES = st.integers(0, 2**48 - 1)
ENTROPY = st.binary(min_size=10, max_size=10)


@given(TIMES, ENTROPY)
def test_an_id_tells_when_it_was_minted_and_its_kind(at: int, entropy: bytes) -> None:
    minted = uuid7(at, entropy)

    assert unix_ms_of(minted) == at
    assert minted.version == 7
    assert minted.variant == "specified in RFC 4122"


@given(TIMES, TIMES, ENTROPY, ENTROPY)
def test_ids_rise_with_time_whatever_the_randomness(one: int, other: int, first: bytes, second: bytes) -> None:
    if one < other:
        assert uuid7(one, first) < uuid7(other, second)


@given(TIMES, ENTROPY, ENTROPY)
def test_74_random_bits_are_kept(at: int, one: bytes, other: bytes) -> None:
    def kept(entropy: bytes) -> int:
        bits = int.from_bytes(entropy, "big")
        return bits >> 68 << 62 | bits & (1 << 62) - 1

    assert (uuid7(at, one) == uuid7(at, other)) == (kept(one) == kept(other))


@pytest.mark.parametrize("size", [0, 9, 11])
def test_too_little_randomness_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"10 bytes are needed, got {size}"):
        uuid7(0, bytes(size))


@given(st.integers(1, 2**53), st.integers(0, 2**55))
def test_a_message_id_leads_to_its_job(job: int, microseconds: int) -> None:
    created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    written = message_id(job, created, "example.com")

    assert read_message_id(written) == read_message_id(written.strip("<>")) == (job, created)


@pytest.mark.parametrize("text", ["", "<1@y.test>", "<job.1@y.test>", "<job.1.z@y.test>", f"<job.1.{'f' * 15}@y.test>"])
def test_what_is_no_message_id_of_ours_leads_nowhere(text: str) -> None:
    assert read_message_id(text) is None
