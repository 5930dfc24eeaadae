"""Who made hits: a person, a provider's proxy, or a machine. Pure: times come with the hits and the mail.

All hits on one mail are judged together, because a scanner shows itself by what it fetches
within seconds, not by any single request. What the rules cannot know they leave to the person:
to count a scanner as human costs less than to tell a reader that she has not read.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from tracker.conduct import BURST_SPAN, conduct
from tracker.hits import EARNING, Hit, HitClass, Judgement, Kind, by_request, judgement_of, signs_of_request
from tracker.networks import NOWHERE, Known, Networks
from tracker.ranges import SOON, Visit

# Nobody clicks sooner after the 250. Others draw the line at 1.5 to 7 s after sending.
QUICKEST = timedelta(seconds=2)


class Mail(msgspec.Struct, frozen=True, gc=False):
    """What is known of the mail that was hit.

    `accepted_at` is the time of its 250, None if it never got one. With `doubts`,
    attempts whose answer was lost, a copy may have arrived before the last `dot_at`.
    """

    links: int  # tracked links, without pixel and unsubscribe link
    dot_at: datetime | None
    accepted_at: datetime | None
    doubts: int
    quickest: timedelta = QUICKEST  # after the 250 somebody may have clicked


def judge(
    hits: Sequence[Hit],
    mail: Mail,
    *,
    beside: Sequence[Hit] = (),
    swept: Collection[UUID] = (),
    networks: Networks = NOWHERE,
) -> list[Judgement]:
    """One judgement for each of `hits`, in the order given; the order itself does not matter.

    With `beside`, which were judged before, they are all hits on one mail within reach of each
    other, and those on its unsubscribe page, which count as one more link. `swept`: events that
    belong to visits of one range to the mails of many (tracker.ranges).
    """
    accepted_at = None if mail.doubts else mail.accepted_at
    calm = accepted_at and accepted_at + mail.quickest
    against = conduct([*hits, *beside], mail.links, networks, accepted_at) if len(hits) + len(beside) > 1 else {}
    found: list[Judgement] = []
    for index, hit in enumerate(hits):
        known = networks.known(hit.network)
        asked = signs_of_request(hit.kind, hit.method, hit.agent)
        if calm is not None and hit.at >= calm and known.clicks is None and not swept and not against:
            found.append(judgement_of(asked))  # nothing but the request can speak against it: most hits
        else:
            found.append(_judgement(hit, mail, known, asked, against.get(index), swept=hit.event_id in swept))
    return found


def judge_view(view: Hit, click: HitClass | None, networks: Networks) -> Judgement:
    """Who saw a page: whoever made the click that led there; None: nobody knows who that was."""
    signs = list(signs_of_request(view.kind, view.method, view.agent))
    if label := networks.known(view.network).clicks:
        signs.append((HitClass.SCANNER, f"network:{label}"))
    if click not in (None, HitClass.HUMAN):
        signs.append((click, "click"))
    return judgement_of(tuple(signs))


def visits(
    hits: Sequence[Hit], mail: Mail, contact_id: int, networks: Networks, beside: Sequence[Hit] = ()
) -> Iterator[tuple[str, Visit]]:
    """Of the hits on one mail, what its ranges are remembered by.

    Not clicks of a mail whose picture another program had loaded: that of a reader's, or her provider's proxy.
    """
    if mail.accepted_at is None or mail.doubts:
        return
    soon = [hit for hit in hits if hit.kind is Kind.CLICK and mail.accepted_at <= hit.at <= mail.accepted_at + SOON]
    shown = _first_shown([*hits, *beside]) if soon else []
    for hit in soon:
        if hit.network is None or any(agent != hit.agent and at <= hit.at + BURST_SPAN for agent, at in shown):
            continue
        known = networks.known(hit.network)
        if known.tells and not known.trusted:
            after = int((hit.at - mail.accepted_at).total_seconds())
            yield hit.network, Visit(hit.at, hit.event_id, contact_id, hit.agent, after)


def _first_shown(hits: Sequence[Hit]) -> list[tuple[str, datetime]]:
    """The first two programs that loaded the picture as a person's do, and since when."""
    since: dict[str, datetime] = {}
    for hit in hits:
        if hit.kind is Kind.OPEN and by_request(hit).class_ in EARNING:
            since[hit.agent] = min(hit.at, since.get(hit.agent, hit.at))
    return sorted(since.items(), key=lambda one: one[1])[:2]


def _judgement(
    hit: Hit, mail: Mail, known: Known, asked: Sequence[tuple[HitClass, str]], conduct: str | None, *, swept: bool
) -> Judgement:
    signs = [*asked, *_signs_of_time(hit, mail)]
    label = known.opens if hit.kind is Kind.OPEN else known.clicks
    if label:
        signs.append((HitClass.SCANNER, f"network:{label}"))
    if not known.trusted:
        if _too_quick(hit, mail):
            signs.append((HitClass.SCANNER, "too_quick"))
        if conduct:
            signs.append((HitClass.SCANNER, conduct))
        if swept:
            signs.append((HitClass.SCANNER, "many_mails"))
    return judgement_of(tuple(signs))


def _signs_of_time(hit: Hit, mail: Mail) -> list[tuple[HitClass, str]]:
    """Nobody reads what has not arrived: not before the final dot, nor before its 250."""
    if mail.doubts:
        return []
    if mail.accepted_at is None:
        early = mail.dot_at is None or hit.at < mail.dot_at
        return [(HitClass.MACHINE, "before_dot") if early else (HitClass.SCANNER, "never_accepted")]
    if mail.dot_at is not None and hit.at < mail.dot_at:
        return [(HitClass.MACHINE, "before_dot")]
    if hit.at < mail.accepted_at:
        return [(HitClass.SCANNER, "before_250")]
    return []


def _too_quick(hit: Hit, mail: Mail) -> bool:
    """A mail has to be shown, seen and understood before somebody clicks."""
    if hit.kind is not Kind.CLICK or mail.doubts or mail.accepted_at is None:
        return False
    return mail.accepted_at <= hit.at < mail.accepted_at + mail.quickest
