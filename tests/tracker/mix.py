"""Reads the table of the mix (mix.txt): mails, and the hits on them with what each is."""

from datetime import timedelta
from pathlib import Path

import msgspec

from tests.tracker.made import NOON, minted
from tracker.hits import Hit, Kind, Method
from tracker.judging import Mail

KINDS = {"open": Kind.OPEN, "click": Kind.CLICK, "look": Kind.LOOK}


class MixedMail(msgspec.Struct):
    """One mail to somebody of their own; `expected` is by event id, '-' where only evidence."""

    number: int
    words: str
    mail: Mail
    hits: list[Hit]
    expected: list[str]


def read_mix() -> list[MixedMail]:
    """All mails of the table."""
    agents: dict[str, str] = {}
    mails: list[MixedMail] = []
    for line in Path(__file__).with_name("mix.txt").read_text(encoding="utf-8").splitlines():
        head, _, words = line.partition(" | ")
        match head.split():
            case []:
                pass
            case ["#", *_]:
                pass
            case ["agent", name]:
                agents[name] = words
            case ["mail", _, links, at, doubts]:
                accepted = NOON + timedelta(seconds=float(at))
                mail = Mail(int(links), accepted - timedelta(seconds=2), accepted, int(doubts))
                mails.append(MixedMail(len(mails) + 1, words, mail, [], []))
            case [after, kind, link, method, agent, network, expected]:
                of = mails[-1]
                assert of.mail.accepted_at is not None
                when = of.mail.accepted_at + timedelta(seconds=float(after))
                number = of.number * 100 + int(link) if kind == "click" else 0
                of.hits.append(
                    Hit(minted(when), when, KINDS[kind], Method(method), agents[agent], network, of.number, number)
                )
                of.expected.append(expected)
            case _:
                raise ValueError(f"mix.txt: {line}")
    return mails
