"""The mails of a program sent once, for real, to somebody who wants to see them: no queue, no gate, no ledger."""

from datetime import UTC, datetime
from typing import assert_never

import msgspec

from engine.service import Stream
from mtad.base.clock import SystemClock
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.errors import InputError, Problem
from mtad.base.source import sources_of, weights_of
from mtad.compose.composer import Composed
from mtad.compose.preview import Rendered, rendered
from mtad.dkim.sign import NotCovered, Signer
from mtad.ops.keyfiles import read_logins
from mtad.ops.locator import Locator
from mtad.shape.layers import Shaper
from mtad.smtp.results import Accepted, Lost, Refused, Result, TooLate
from mtad.wire.dns import Unresolved
from mtad.wire.egress import Egress, Unbound
from mtad.wire.resolver import NoMail, Resolver
from mtad.wire.session import Dialer, Session
from mtad.wire.terms import terms_of

# A person waits for it; the receiving server has the usual time for its answers.
DATA_WITHIN = 60.0


class Tested(msgspec.Struct, frozen=True):
    """What a server said to one message."""

    step: str
    subject: str
    accepted: bool
    host: str
    reply: str
    source: str


async def made(
    pool: Pool, config: Config, name: str, as_contact: str | None, to: str | None, source: str = ""
) -> list[Rendered]:
    """Every mail of the program (see mtad.compose.preview), signed as those that leave through `source` are.

    Problem when one cannot be signed.
    """

    def sign(mail: Composed, stream: Stream, now: int) -> bytes:
        signer = Signer.from_config(config, source or _first_of(config, stream.definition.pool))
        return signer.draft(
            mail.headers, mail.body, mail.from_domain, now,
            return_domain=mail.return_domain, stream=stream.name, bulk=mail.bulk,
        ).finished()  # fmt: skip

    try:
        return await rendered(pool, config, name, as_contact, to, sign=sign, now=datetime.now(UTC))
    except NotCovered as error:
        raise Problem(f"{name}: not signed, so not sent: {error}") from None


async def try_out(
    pool: Pool, config: Config, name: str, as_contact: str | None, to: str, source: str = ""
) -> list[Tested]:
    """Send each mail once to `to`, through `source` or the first of the stream's pool, under the limits of that lane.

    All over one session, as long as it lasts; none is counted or held back by rates. InputError, Problem: nothing left.
    """
    known = {one.name: one for one in sources_of(config.source)}
    if source and source not in known:
        raise InputError(f"--source: {source!r} is none of {', '.join(known)}")
    mails = await made(pool, config, name, as_contact, to, source)
    chosen = source or _first_of(config, mails[0].pool)
    if not chosen:
        raise Problem(f"{name}: the configuration has no [[pool]] named {mails[0].pool!r}")
    clock = SystemClock()
    resolver = Resolver.from_config(config, clock)
    dialer = Dialer.from_config(config, resolver, clock, read_logins(config))
    domain = mails[0].composed.recipient.rpartition("@")[2]
    try:
        site = await Locator.from_config(config, resolver, clock).locate(domain)
    except Unresolved as error:
        raise Problem(f"{domain}: {error}") from None
    if isinstance(site, NoMail):
        raise Problem(site.why)
    terms = terms_of(Shaper(config.shape, config.routes).shape(site.name, site.hosts, chosen))
    results: list[Tested] = []
    session: Session | None = None
    try:
        for mail in mails:
            if session is None or not session.alive():
                opened = await dialer.open(site.hosts, terms, Egress.of(known[chosen]))
                if isinstance(opened, Unbound):
                    raise Problem(f"source {chosen}: {opened.why}")
                if not isinstance(opened, Session):
                    results.append(_tested(mail, opened, chosen))
                    continue
                session = opened
            composed, data_by = mail.composed, clock.monotonic() + DATA_WITHIN
            result = await session.send(composed.return_path, composed.recipient, mail.eml, data_by=data_by)
            results.append(_tested(mail, result, chosen))
    finally:
        if session is not None:
            await session.close()
    return results


def _first_of(config: Config, pool: str) -> str:
    """The first source of a pool; '' when there is no such pool."""
    return next(iter(weights_of(config.source, config.pool).get(pool, ())), "")


def _tested(mail: Rendered, result: Result, source: str) -> Tested:
    match result:
        case Accepted(text=text):
            said = text
        case Refused(stage=stage, text=text):
            said = f"to {stage}: {text}"
        case Lost(stage=stage, why=why):
            said = f"{stage}: {why}"
        case TooLate():
            said = "the session was not ready in time"
        case _:
            assert_never(result)
    return Tested(mail.node, mail.subject, isinstance(result, Accepted), result.host, said, source)
