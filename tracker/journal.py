"""The journal's records: bytes that survive being cut anywhere. Pure.

A record is ``magic 2 · length 4 · CRC-32 4 · payload``, little endian; the CRC
covers length and payload, the payload is one Hit in MessagePack. A write that
was torn by a crash leaves a tail that reads as no record, and a damaged record
costs itself only: the next one is found again by its magic and its CRC.
"""

import struct
import zlib

import msgspec

from tracker.hits import Hit

MAGIC = b"\xb5M"
HEADER = struct.Struct("<2sII")

# A Hit is a few hundred bytes. A length beyond this is damage, so a reader
# never waits for the gigabytes that a flipped bit announces.
MAX_PAYLOAD = 16 * 1024

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Hit)


class Decoded(msgspec.Struct, frozen=True):
    """The hits in a piece of a journal."""

    hits: list[Hit]
    end: int  # the offset after the last record; the rest is torn, damaged, or not yet written
    bad: int  # places where damage was passed over


def encode(hit: Hit) -> bytes:
    """One record."""
    payload = _encoder.encode(hit)
    return HEADER.pack(MAGIC, len(payload), _crc(payload)) + payload


def decode(data: bytes, offset: int = 0, most: int | None = None) -> Decoded:
    """The whole records in `data` from `offset` on, up to `most`; damage between records is counted."""
    hits: list[Hit] = []
    end = offset
    bad = 0
    while most is None or len(hits) < most:
        found = _record(data, offset)
        if found is None:
            next_offset = _next_record(data, offset + 1)
            if next_offset is None:
                break
            bad += 1
            offset = next_offset
            continue
        payload_end, payload = found
        try:
            hits.append(_decoder.decode(payload))
        except msgspec.DecodeError:
            bad += 1  # whole, but not ours: written by another version
        end = offset = payload_end
    return Decoded(hits, end, bad)


def may_be_torn(rest: bytes) -> bool:
    """Whether what stands behind the last record is the beginning of one, cut off; else it is damage."""
    if len(rest) < HEADER.size:
        return MAGIC.startswith(rest[: len(MAGIC)])
    magic, length, _ = HEADER.unpack_from(rest)
    return bool(magic == MAGIC and len(rest) - HEADER.size < length <= MAX_PAYLOAD)


def _record(data: bytes, offset: int) -> tuple[int, bytes] | None:
    """The end and the payload of the record that begins at `offset`; None if none does."""
    if len(data) - offset < HEADER.size:
        return None
    magic, length, crc = HEADER.unpack_from(data, offset)
    start = offset + HEADER.size
    if magic != MAGIC or length > MAX_PAYLOAD or start + length > len(data):
        return None
    payload = data[start : start + length]
    return (start + length, payload) if _crc(payload) == crc else None


def _next_record(data: bytes, offset: int) -> int | None:
    """Where the next whole record begins."""
    while (offset := data.find(MAGIC, offset)) >= 0:
        if _record(data, offset):
            return offset
        offset += 1
    return None


def _crc(payload: bytes) -> int:
    return zlib.crc32(payload, len(payload))
