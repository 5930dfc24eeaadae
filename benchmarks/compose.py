"""``python -m benchmarks.compose``: the CPU time that one mail takes to compose, whole and by part.

The message has HTML and plain text, five links, a pixel and personal values, as in
benchmarks.send. Nothing is signed or sent, and no database is asked.
"""

import sys
from collections.abc import Callable, Mapping

import msgspec

from benchmarks.cpu import Cost, costs, exhaust, rest
from benchmarks.entry import finish, machine
from benchmarks.letters import Letters, letters
from benchmarks.rehearsal import Plan, plan_of
from mtad.compose import mime
from mtad.compose.composer import Composed
from mtad.compose.links import CALL
from mtad.compose.template import compiled, compiled_html, compiled_text, context, rendered
from tracker.tokens import Purpose, click_url, contact_token, link_token, pixel_url, return_path

_BASE = "https://t.example.com"


class Report(msgspec.Struct, frozen=True):
    """What --json writes; µs of one core a mail. `rest`: of `compose`, what its parts do not explain."""

    mails: int
    message_bytes: float
    compose: Cost
    parts: Mapping[str, Cost]
    rest: Cost
    message: Cost  # head, signature and body put together, which is no part of compose
    command: list[str]
    machine: Mapping[str, str | int]


def main() -> None:
    """Run, print a line, write the JSON."""
    plan = plan_of("compose", __doc__, mails=2000, done="composed")
    finish("compose", measure(plan), limit=plan.limit, json=plan.json, line=_line, good=lambda _: True)


async def measure(plan: Plan) -> Report:
    """All parts of the same mails."""
    made = letters(plan.mails, plan.size, plan.seed)
    mails = list(made.compose())
    signature = b"x" * 800
    works: dict[str, Callable[[], object]] = {
        "compose": lambda: exhaust(made.compose()),
        "message": lambda: exhaust(mail.message(signature) for mail in mails),
        **_parts(made, mails),
    }
    found = await costs(works, plan.mails, plan.rounds)
    whole, message = found.pop("compose"), found.pop("message")
    return Report(
        mails=len(mails),
        message_bytes=round(sum(len(mail.message()) for mail in mails) / len(mails), 1),
        compose=whole,
        parts=found,
        rest=rest(whole, found),
        message=message,
        command=sys.argv[1:],
        machine=machine("none"),
    )


def _parts(made: Letters, mails: list[Composed]) -> dict[str, Callable[[], object]]:
    """What compose is made of, by the functions that it calls; the rest is itself."""
    keys, (pixel, *links) = made.keys, made.links
    assert made.parts.html is not None
    assert made.parts.txt is not None
    subject, txt, html = compiled(made.parts.subject), compiled_text(made.parts.txt), compiled_html(made.parts.html)
    urls = {f"{CALL}_{at}": f"{_BASE}/c/{'x' * 36}" for at in range(1, len(made.links))}
    ours = urls | {"mtad_pixel": f"{_BASE}/o/x.gif", "unsubscribe_url": f"{_BASE}/u/{'x' * 36}", "imprint": "x"}
    values = [context(facts.address, {**facts.attributes, **ours}) for facts in made.facts]
    bodies = [(rendered(txt, each, "txt"), rendered(html, each, "html")) for each in values]

    def tokens() -> None:
        for facts in made.facts:
            contact_token(keys, facts.contact_id, facts.program_id)
            return_path(keys, facts.job_id, "bounce.example.com")
            pixel_url(_BASE, link_token(keys, Purpose.OPEN, facts.job_id, pixel))
            for link in links:
                click_url(_BASE, link_token(keys, Purpose.CLICK, facts.job_id, link))

    return {
        "tokens": tokens,
        "subject": lambda: exhaust(mime.unstructured("Subject", rendered(subject, each, "subject")) for each in values),
        "text": lambda: exhaust(rendered(txt, each, "txt") for each in values),
        "html": lambda: exhaust(rendered(html, each, "html") for each in values),
        "mime": lambda: exhaust(
            mime.alternative("=_mtad.7", [("text/plain", mime.ended(one)), ("text/html", mime.ended(other))]).encode()
            for one, other in bodies
        ),
        "recipient": lambda: exhaust(mime.mailbox("To", "", mail.recipient) for mail in mails),
    }


def _line(report: Report) -> str:
    parts = ", ".join(f"{name} {cost.median:.1f}" for name, cost in [*report.parts.items(), ("rest", report.rest)])
    return f"{report.compose.median:.1f} µs to compose {report.message_bytes:,.0f} bytes ({parts})"


if __name__ == "__main__":
    main()
