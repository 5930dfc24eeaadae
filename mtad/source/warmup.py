"""How far a source's plan has come with a provider, and whether it goes on. Pure."""

from collections.abc import Sequence

import msgspec

from mtad.base.source import Warmup


class Day(msgspec.Struct, frozen=True):
    """A day on which it sent, as it ended."""

    step: int  # of the plan, from 0
    allowed: int | None  # None: the plan was over
    granted: int  # sent
    deferred: int  # of them refused because of us
    complaints: int  # since then, of people to whom it had delivered


class Step(msgspec.Struct, frozen=True):
    """What a day is worth; `held` says why it is no further than the last one, '' where it is."""

    step: int
    allowed: int | None  # None: no limit
    held: str = ""


def plan_for(warmup: Warmup, provider: str) -> Sequence[int]:
    """Mails on the first day, the second …"""
    return warmup.provider.get(provider, warmup.plan)


def next_step(warmup: Warmup, provider: str, last: Day | None) -> Step:
    """The step of a day, after the last day on which the source sent there.

    Never more than one step beyond the last; no further one after trouble, or after a day
    that warmed little: what was not sent has shown nobody anything.
    """
    plan = plan_for(warmup, provider)
    if last is None:
        return Step(0, plan[0])
    if last.allowed is None:
        return Step(last.step, None)
    held = _held(warmup, last)
    step = last.step if held else last.step + 1
    return Step(step, plan[step] if step < len(plan) else None, held)


def _held(warmup: Warmup, last: Day) -> str:
    assert last.allowed is not None
    if last.deferred > last.granted * warmup.most_deferred:
        return f"{last.deferred} of {last.granted} mails were refused because of us"
    if last.complaints > last.granted * warmup.most_complaints:
        return f"{last.complaints} complaints about {last.granted} mails"
    if last.granted * 2 < last.allowed:
        return f"only {last.granted} of {last.allowed} mails were sent"
    return ""
