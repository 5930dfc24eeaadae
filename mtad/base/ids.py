"""UUIDv7 (RFC 9562 section 5.7): ids that rise with time. Pure: told the time and the randomness."""

from uuid import UUID


def uuid7(unix_ms: int, entropy: bytes) -> UUID:
    """An id minted at `unix_ms` milliseconds since 1970; `entropy` is 10 random bytes."""
    if len(entropy) != 10:
        raise ValueError(f"entropy: 10 bytes are needed, got {len(entropy)}")
    tail = int.from_bytes(entropy, "big")
    rand_a = tail >> 68  # 12 of the 80 bits
    rand_b = tail & ((1 << 62) - 1)
    return UUID(int=(unix_ms & ((1 << 48) - 1)) << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)


def unix_ms_of(uuid: UUID) -> int:
    """The milliseconds since 1970 at which a UUIDv7 was minted."""
    return uuid.int >> 80
