"""What the embedded Postgres takes of the machine's memory."""

import os

import pytest

from mtad.ops.memory import memory, sizes

GB = 1 << 30


@pytest.mark.parametrize(
    ("total", "shared", "cache"),
    [
        (GB // 4, "128MB", "256MB"),
        (2 * GB, "512MB", "1024MB"),
        (8 * GB, "2048MB", "4096MB"),
        (64 * GB, "4096MB", "32768MB"),
    ],
)
def test_postgres_gets_a_quarter_within_bounds(total: int, shared: str, cache: str) -> None:
    assert sizes(total) == {"shared_buffers": shared, "effective_cache_size": cache}


def test_no_more_is_used_than_the_machine_has() -> None:
    assert 0 < memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
