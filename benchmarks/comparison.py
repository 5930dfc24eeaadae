"""What the rounds of all peers add up to: medians, the ratio, a table. Pure."""

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from benchmarks.capture import Captured
from benchmarks.relay import Relayed


class Ours(msgspec.Struct, frozen=True):
    """What is read of the JSON of benchmarks.send."""

    messages: int
    seconds: float
    rate: float
    rsa_limit: float
    enqueue_seconds: float
    cpu_us_per_message: Mapping[str, float | None]
    message_bytes: int
    lost: int
    duplicates: int


class Round(msgspec.Struct, frozen=True):
    """Everybody once: mtad, Postfix in both of its ways, the scripts' messages a second by signer."""

    mtad: Ours
    at_once: Relayed
    held: Relayed
    scripts: Mapping[str, float]


class Rates(msgspec.Struct, frozen=True):
    """Messages a second, of one round or as medians. What each clock covers: benchmarks/README.md."""

    mtad_rate: float  # enqueueing included
    postfix_rate: float  # handing in included; the better of the two below
    script_dkimpy_rate: float | None
    script_cryptography_rate: float | None
    mtad_delivery_rate: float  # what benchmarks.send calls its rate
    postfix_at_once_rate: float
    postfix_held_rate: float
    postfix_injection_rate: float  # into a queue that holds its mail: signed and on disk
    postfix_delivery_rate: float  # out of it, without signing


class Compared(msgspec.Struct, frozen=True):
    """Medians of all rounds, and their ratio."""

    rates: Rates
    ratio_to_postfix: float
    cpu_us_per_message: Mapping[str, Mapping[str, float | None]]
    rsa_limit: float
    rounds: Sequence[Rates]


def compared(messages: int, rounds: Sequence[Round]) -> Compared:
    """Postfix counts with the better median of its two ways."""
    each = [_rates(messages, one) for one in rounds]
    medians = {name: _median([getattr(one, name) for one in each]) for name in Rates.__struct_fields__}
    rates = msgspec.convert(medians, Rates)
    # Not the median of the better ways, which may change from round to round.
    better = max(rates.postfix_at_once_rate, rates.postfix_held_rate)
    rates = msgspec.structs.replace(rates, postfix_rate=better)
    cpu: dict[str, Mapping[str, float | None]] = {
        "mtad": _medians([one.mtad.cpu_us_per_message for one in rounds], 1),
        "postfix_at_once": _medians([one.at_once.cpu for one in rounds], 1e6 / messages),
        "postfix_held": _medians([one.held.cpu for one in rounds], 1e6 / messages),
    }
    return Compared(
        rates=rates,
        ratio_to_postfix=round(rates.mtad_rate / better, 2),
        cpu_us_per_message=cpu,
        rsa_limit=median(one.mtad.rsa_limit for one in rounds),
        rounds=each,
    )


def _rates(messages: int, one: Round) -> Rates:
    at_once, held = messages / one.at_once.seconds, messages / one.held.seconds
    return Rates(
        mtad_rate=round(messages / (one.mtad.enqueue_seconds + one.mtad.seconds), 1),
        postfix_rate=round(max(at_once, held), 1),
        script_dkimpy_rate=one.scripts.get("dkimpy"),
        script_cryptography_rate=one.scripts.get("cryptography"),
        mtad_delivery_rate=one.mtad.rate,
        postfix_at_once_rate=round(at_once, 1),
        postfix_held_rate=round(held, 1),
        postfix_injection_rate=round(messages / one.held.injection_seconds, 1),
        postfix_delivery_rate=round(messages / one.held.delivery_seconds, 1),
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 1) if known else None


def _medians(rounds: Sequence[Mapping[str, float | None]], factor: float) -> dict[str, float | None]:
    return {
        name: _median([None if (used := one[name]) is None else used * factor for one in rounds]) for name in rounds[0]
    }


def table(found: Compared, mails: Captured) -> str:
    """A line for each peer, for a person."""
    rates = found.rates

    def times(rate: float | None) -> str:
        return f"{rates.mtad_rate / rate:6.1f}" if rate else ""

    def line(name: str, rate: float | None, kept: str) -> str:
        return f"{name:34}{rate:10,.0f}{times(rate):>8}  {kept}" if rate is not None else f"{name:34}{'-':>10}"

    lines = [
        f"{mails.messages:,} mails of {mails.message_bytes:,} bytes, RSA-2048, medians of {len(found.rounds)} rounds",
        f"{'':34}{'a second':>10}{'mtad is':>8}  on disk before it is sent",
        line("mtad, enqueue and send", rates.mtad_rate, "each mail's state, fsync"),
        line("Postfix + OpenDKIM, better way", rates.postfix_rate, "each mail, fsync"),
        line("  handed in and delivered at once", rates.postfix_at_once_rate, ""),
        line("  held until all is handed in", rates.postfix_held_rate, ""),
        line("script, aiosmtplib + dkimpy", rates.script_dkimpy_rate, "nothing"),
        line("script, aiosmtplib + cryptography", rates.script_cryptography_rate, "nothing"),
        "once all is queued (Postfix has signed before, mtad signs now)",
        line("  mtad", rates.mtad_delivery_rate, ""),
        line("  Postfix", rates.postfix_delivery_rate, ""),
        f"ratio to Postfix + OpenDKIM: {found.ratio_to_postfix:.1f}",
    ]
    return "\n".join(lines)
