"""mtad program report: people's answers, machines apart."""

from datetime import timedelta

from mtad.base.db import Connection
from mtad.ops.answers.counts import Pending
from mtad.ops.answers.report import LinkReport, MailReport, report
from tests.rows import START, Rows


async def test_only_people_count_as_readers(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann, bob, cat = [await rows.contact(f"{name}@y.test") for name in ("ann", "bob", "cat")]
    mails = {contact: await rows.mail(program, contact, "delivered") for contact in (ann, bob, cat)}
    opened = await rows.hit("open", ann, mails[ann], program.pixels[0], class_="proxy")
    await rows.answer(program, ann, mails[ann], "open", opened)
    for _ in range(2):
        clicked = await rows.hit("click", ann, mails[ann], program.links[0][1])
    await rows.answer(program, ann, mails[ann], "click", clicked)
    await rows.hit("click", bob, mails[bob], program.links[0][1], class_="scanner")
    await rows.hit("open", bob, mails[bob], program.pixels[0], class_="veiled")
    await rows.hit("open", cat, mails[cat], program.pixels[0], class_=None)

    found = await report(conn, "nudge")

    assert (found.delivered, found.opened, found.clicked) == (3, 1, 1)
    assert (found.opens, found.clicks) == (1, 2)
    assert found.machine == {"scanner": {"click": 1}, "veiled": {"open": 1}}
    assert found.unjudged == 1
    assert found.mails == [MailReport("nudge-1", enrolled=3, delivered=3, opened=1, clicked=1)]


async def test_every_link_is_listed_with_clicks_and_people(rows: Rows, conn: Connection) -> None:
    program = await rows.program("news", mails=1)
    ann, bob = [await rows.contact(f"{name}@y.test") for name in ("ann", "bob")]
    for contact, clicks in ((ann, 2), (bob, 1)):
        job = await rows.mail(program, contact, "delivered")
        for _ in range(clicks):
            await rows.hit("click", contact, job, program.links[0][2])

    found = await report(conn, "news")

    assert found.links == [
        LinkReport("news-1", 1, "https://shop.test/1/1", clicks=0, people=0),
        LinkReport("news-1", 2, "https://shop.test/1/2", clicks=0, people=0),
        LinkReport("news-1", 3, "https://shop.test/1/3", clicks=3, people=2),
    ]


async def test_hits_that_may_only_be_counted_are_in_the_sums_and_are_nobodys(rows: Rows, conn: Connection) -> None:
    program = await rows.program("news", mails=1)
    ann = await rows.contact("ann@y.test")
    await rows.hit("click", ann, await rows.mail(program, ann, "delivered"), program.links[0][2])
    counts = [(0, "human", 5), (0, "veiled", 2), (3, "human", 4), (3, "proxy", 1), (3, "machine", 9)]
    for position, class_, n in counts:
        link = program.links[0][position - 1] if position else program.pixels[0]
        await conn.execute("insert into hit_count values ($1, $2, $3, $4)", link, START, class_, n)

    found = await report(conn, "news")

    assert (found.opened, found.opens, found.clicks) == (0, 5, 6)
    assert (found.links[2].clicks, found.links[2].people) == (6, 1)
    assert found.machine == {"veiled": {"open": 2}, "machine": {"click": 9}}


async def test_endings_are_told_by_reason_and_the_queue_by_state(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ends = [
        ("bounced", "unknown_user"), ("bounced", "unknown_user"), ("bounced", "policy"), ("expired", ""),
        ("in_doubt", ""), ("skipped", "unsubscribed"), ("skipped", "left:engaged"), ("delivered", ""),
    ]  # fmt: skip
    for n, (outcome, reason) in enumerate(ends):
        await rows.mail(program, await rows.contact(f"c{n}@y.test"), outcome, reason)
    waiting = await rows.contact("w@y.test")
    await rows.queued(program, waiting, await rows.enrol(program, waiting), attempt=1)

    found = await report(conn, "nudge")

    assert found.bounced == {"unknown_user": 2, "policy": 1}
    assert found.skipped == {"left:engaged": 1, "unsubscribed": 1}
    assert (found.enrolled, found.delivered, found.expired, found.in_doubt) == (9, 1, 1, 1)
    assert found.pending == Pending(waiting=0, deferred=1, begun=0, in_doubt=0)


async def test_newly_engaged_belong_to_the_program_whose_mail_was_answered(rows: Rows, conn: Connection) -> None:
    nudge, news = await rows.program(), await rows.program("news", mails=1)
    ann, bob, cat = [await rows.contact(f"{name}@y.test") for name in ("ann", "bob", "cat")]
    for contact, program in ((ann, nudge), (bob, nudge), (cat, news)):
        job = await rows.mail(program, contact, "delivered")
        at = START + timedelta(minutes=contact)
        event = await rows.hit("click", contact, job, program.links[0][0], at=at)
        await rows.answer(program, contact, job, "click", event, at=at)
        await rows.transition(program, contact, "engaged", "threshold", f"click, job {job}", at=at)
    taken_back = await conn.fetchval("select id from transition where contact_id = $1", bob)
    await rows.transition(nudge, bob, "active", "replay", "late fact")
    await conn.execute("update transition set takes_back = $1 where to_state = 'active'", taken_back)

    assert (await report(conn, "nudge")).engaged == 1
    assert (await report(conn, "news")).engaged == 1


async def test_whoever_left_is_counted_once_where_the_link_was(rows: Rows, conn: Connection) -> None:
    nudge, news = await rows.program(), await rows.program("news", mails=1)
    ann, bob = [await rows.contact(f"{name}@y.test") for name in ("ann", "bob")]
    for _ in range(2):
        await rows.hit("unsubscribe", ann, None, None, class_=None, data={"how": "page", "program": nudge.id})
    await rows.hit("unsubscribe", bob, None, None, class_=None, data={"how": "one_click", "program": news.id})
    await rows.hit("complaint", bob, None, None, class_=None, data={"program": nudge.id})
    await rows.hit("unsubscribe", bob, None, None, class_=None, data={"how": "operator", "program": None})

    first, second = await report(conn, "nudge"), await report(conn, "news")

    assert (first.unsubscribed, first.complained) == (1, 1)
    assert (second.unsubscribed, second.complained) == (1, 0)


async def test_a_link_that_stands_in_two_versions_is_one_line(rows: Rows, conn: Connection) -> None:
    program = await rows.program("news", mails=1)
    contact = await rows.contact("ann@y.test")
    job = await rows.mail(program, contact, "delivered")
    newer = await conn.fetchval(
        "insert into message (program_id, version, node, name, parts, pixel)"
        " values ($1, 2, 'news-1', 'news-1', '{}', true) returning id", program.id,
    )  # fmt: skip
    link = await conn.fetchval(
        "insert into message_link (message_id, position, url) values ($1, 2, 'https://shop.test/1/1') returning id",
        newer,
    )
    for id_ in (program.links[0][0], link):
        await rows.hit("click", contact, job, id_)

    found = await report(conn, "news")

    assert [(row.url[-1], row.clicks, row.people) for row in found.links] == [("1", 2, 1), ("2", 0, 0), ("3", 0, 0)]
