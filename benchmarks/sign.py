"""``python -m benchmarks.sign``: the CPU time that one DKIM signature takes, by key, and without the key's part.

The mails are those of benchmarks.compose, in DKIM's canonical form already, which the
signer is told as it is by the daemon.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from benchmarks.cpu import Cost, costs, exhaust
from benchmarks.entry import finish, machine
from benchmarks.letters import NOW, letters
from benchmarks.mailing import DOMAIN
from benchmarks.rehearsal import Plan, plan_of
from mtad.compose.composer import Composed
from mtad.dkim.canon import ended, relaxed_body, relaxed_value
from mtad.dkim.keys import Key, new_ed25519_key, new_key, parse_key, signature
from mtad.dkim.sign import SIGNED, Identity, Signer


class Report(msgspec.Struct, frozen=True):
    """What --json writes; µs of one core a mail."""

    mails: int
    body_bytes: float
    sign: Mapping[str, Cost]  # by --dkim of benchmarks.send
    key: Mapping[str, Cost]  # the key's part of that
    without_key: Cost  # all else, with a key that answers at once
    parts: Mapping[str, Cost]  # of without_key
    relaxed_body: Cost  # what a body costs that is not known to be canonical, beside all this
    command: list[str]
    machine: Mapping[str, str | int]


class _NoKey:
    """As long an answer as RSA-2048 gives, at once."""

    def sign(self, *_arguments: object) -> bytes:
        return bytes(256)


def main() -> None:
    """Run, print a line, write the JSON."""
    plan = plan_of("sign", __doc__, mails=1000, done="signed")
    finish("sign", measure(plan), limit=plan.limit, json=plan.json, line=_line, good=lambda _: True)


async def measure(plan: Plan) -> Report:
    """Every key and every part on the same mails."""
    mails = list(letters(plan.mails, plan.size, plan.seed).compose())
    keys = {name: parse_key(pem) for name, pem in (("rsa2048", new_key()), ("ed25519", new_ed25519_key()))}
    identities = {name: [Identity(DOMAIN, name, key)] for name, key in keys.items()}
    identities["both"] = [*identities["rsa2048"], *identities["ed25519"]]
    digests = [hashlib.sha256(mail.body).digest() for mail in mails]
    none = Signer([Identity(DOMAIN, "none", cast(Any, _NoKey()))])
    covered = {name.encode() for name in SIGNED}
    values = [[value for name, value in mail.headers if name in covered] for mail in mails]
    works: dict[str, Callable[[], object]] = {
        "without_key": _signing(none, mails),
        "body_hash": lambda: exhaust(hashlib.sha256(ended(mail.body)).digest() for mail in mails),
        "headers": lambda: exhaust(hashlib.sha256(b"".join(map(relaxed_value, each))).digest() for each in values),
        "relaxed_body": lambda: exhaust(relaxed_body(mail.body) for mail in mails),
    }
    works |= {f"sign {name}": _signing(Signer(each), mails) for name, each in identities.items()}
    works |= {f"key {name}": _keyed(key, digests) for name, key in keys.items()}
    found = await costs(works, plan.mails, plan.rounds)
    return Report(
        mails=len(mails),
        body_bytes=round(sum(len(mail.body) for mail in mails) / len(mails), 1),
        sign={name: found[f"sign {name}"] for name in identities},
        key={name: found[f"key {name}"] for name in keys},
        without_key=found["without_key"],
        parts={name: found[name] for name in ("body_hash", "headers")},
        relaxed_body=found["relaxed_body"],
        command=sys.argv[1:],
        machine=machine("none"),
    )


def _signing(signer: Signer, mails: list[Composed]) -> Callable[[], object]:
    now = int(NOW.timestamp())
    return lambda: exhaust(
        signer.draft(mail.headers, mail.body, mail.from_domain, now, canonical=True).finished() for mail in mails
    )


def _keyed(key: Key, digests: list[bytes]) -> Callable[[], object]:
    return lambda: exhaust(signature(key, digest) for digest in digests)


def _line(report: Report) -> str:
    keys = ", ".join(f"{name} {cost.median:.0f}" for name, cost in report.sign.items())
    return f"{report.without_key.median:.1f} µs beside the key, {report.body_bytes:,.0f} bytes; with it {keys}"


if __name__ == "__main__":
    main()
