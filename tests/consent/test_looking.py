"""Looking is not acting: whatever is asked for by GET or HEAD, only a POST changes anything."""

import asyncio
import random
import re

from engine.service import fold, fold_signs, retell
from tests.consent.conftest import EVENT_TOKEN, Office, serving
from tests.tracker.made import KEYS
from tests.tracker.test_tracker import until
from tracker import tokens
from tracker.desk import Act
from tracker.service import ripen
from tracker.tokens import Purpose

REQUESTS = 10_000
CONNECTIONS = 250
PEOPLE = 100

# What must not move: everything about consent and modes, and what is queued.
KEPT = (
    "contact", "identity", "subscription", "proof", "suppression", "entry", "job", "form", "form_use", "event_key",
)  # fmt: skip
# And states, but of those whose own mail is clicked and opened by GET: that may earn them points.
STATES = ("gate", "engagement", "transition", "answer")

QUERIES = [
    "", "?confirm=1", "?List-Unsubscribe=One-Click", "?act=leave&stream=1", "?act=unmeasure", "?act=undo&stream=1",
    "?act=resume&stream=1", "?act=return&stream=1", "?email=x@y.test",
]  # fmt: skip
HEADERS = [
    "",
    "X-HTTP-Method-Override: POST\r\n",
    "Sec-Purpose: prefetch\r\n",
    "Content-Type: application/x-www-form-urlencoded\r\n",
    "Accept-Language: de\r\nCookie: a=b\r\n",
    f"Authorization: Bearer {EVENT_TOKEN}\r\nOrigin: https://www.example.com\r\n",
]
AGENTS = ["", "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0", "curl/8", "Mozilla/5.0"]


def paths(contacts: list[int], asking: list[int], mails: list[int], link: int) -> dict[str, list[str]]:
    """By route, addresses on which a GET could do harm if it did anything, and some that are nobody's.

    `asking` are mails that ask to confirm; `mails` have a pixel and this link.
    """
    people = [
        (make(KEYS, contact, 1), prefix)
        for contact in [0, *contacts]
        for make, prefix in ((tokens.contact_token, "/u/"), (tokens.preferences_token, "/p/"))
    ]
    opens, clicks = zip(*(link_tokens(job, link) for job in mails), strict=True)
    clicks = clicks[1:]  # the first is only opened, so no burst can make a scanner of who did it
    return {
        "/u/{token}": [prefix + token for token, prefix in people if prefix == "/u/"] + ["/u/" + "A" * 36],
        "/p/{token}": [prefix + token for token, prefix in people if prefix == "/p/"] + ["/p/x"],
        "/confirm/{token}": ["/confirm/" + tokens.confirm_token(KEYS, job) for job in [0, 10**9, *asking]],
        "/s/{form}": ["/s/site", "/s/nowhere", "/s/%00"],
        "/o/{token}": [f"/o/{token}.gif" for token in opens],
        "/c/{token}": ["/c/" + token for token in clicks],
        "/c/{token}/{values}": ["/c/" + clicks[0] + "/-x"],
        "/v.js": ["/v.js"],
        "/robots.txt": ["/robots.txt"],
        "/favicon.ico": ["/favicon.ico"],
        "/healthz": ["/healthz"],
        "/healthz/{asked}": ["/healthz/" + "0" * 32],
        "": ["/subscribe", "/events", "/v", "/", "/nowhere"],
    }


def one_click(path: str, *, multipart: bool) -> bytes:
    """RFC 8058 section 3.2, byte for byte: no cookie, no user agent."""
    kind, body = (
        ("multipart/form-data; boundary=b",
         b'--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--\r\n')
        if multipart
        else ("application/x-www-form-urlencoded", b"List-Unsubscribe=One-Click")
    )  # fmt: skip
    return (
        f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def answers(port: int, requests: list[bytes]) -> list[int]:
    """The statuses of requests that are sent one behind the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(requests) + b"GET /robots.txt HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
    heads = re.findall(rb"HTTP/1\.1 (\d{3}) [^\r\n]+\r\n(?:[^\r\n]+\r\n)+\r\n", await reader.read())
    writer.close()
    return [int(status) for status in heads[:-1]]


async def snapshot(office: Office, readers: list[int]) -> dict[str, str]:
    query = "select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from {} t"
    found = {table: await office.pool.fetchval(query.format(table)) for table in KEPT}
    others = query + " where contact_id <> all($1::bigint[])"
    return found | {table: await office.pool.fetchval(others.format(table), readers) for table in STATES}


async def mailed(office: Office, contacts: list[int]) -> tuple[list[int], int]:
    """A mail to each, that has arrived; their ids and the link that is in all of them."""
    value = office.pool.fetchval
    await office.pool.execute(
        "update stream_version set definition = jsonb_set(definition, '{policy,settle}', '0')"  # what is in is judged
    )
    program = await value(
        "insert into program (name, kind, stream_id, class, version) values ('p', 'campaign', 1, 2, 1) returning id"
    )
    message = await value(
        "insert into message (program_id, version, node, name, parts, pixel) values ($1, 1, 'm', 'm', '{}', true)"
        " returning id", program,
    )  # fmt: skip
    link = await value(
        "insert into message_link (message_id, position, url) values ($1, 1, 'https://a.test/') returning id", message
    )
    mails = await office.pool.fetch(
        "insert into ledger (job_id, program_id, stream_id, message_id, contact_id, outcome, reason, attempts, doubts,"
        " created, dot_at, ended) select 1000 + c, $1, 1, $2, c, 'delivered', '', 1, 0, at, at, at"
        " from unnest($3::bigint[]) c, (select now() - interval '1 hour') t (at) returning job_id",
        program, message, contacts,
    )  # fmt: skip
    return [row[0] for row in mails], link


async def test_ten_thousand_looks_change_nothing_and_one_click_everything(office: Office) -> None:
    await office.pool.execute(
        "with c as (insert into contact (address, address_key, domain_id)"
        " select 'p' || n || '@reader.test', 'p' || n || '@reader.test', 1 from generate_series(1, $1) n returning id),"
        " g as (insert into gate (contact_id) select id from c)"
        " insert into subscription (stream_id, contact_id, status, basis, source, changed_by)"
        " select 1, id, 'subscribed', 'consent', 'test', 'test' from c",
        PEOPLE,
    )
    contacts = [row[0] for row in await office.pool.fetch("select id from contact order by id")]
    readers, scanned, left, paused = (contacts[at : at + 10] for at in range(0, 40, 10))
    for number in range(5):
        await office.ask(f"new{number}@reader.test")
    mails, link = await mailed(office, readers + scanned)
    for who, act in ((left, Act.LEAVE), (paused, Act.BREAK)):
        for contact in who:
            await office.act(act, contact)
    known = paths(contacts[1:], await office.jobs(), mails, link)
    no_signs = [token for job in mails[10:] for token in link_tokens(job, link)]
    draw = random.Random(8058)

    def request() -> bytes:
        path = draw.choice(draw.choice(routes))
        # What a scanner asks of a mail by HEAD is no sign of its person.
        method = "HEAD" if any(token in path for token in no_signs) else draw.choice(("GET", "HEAD"))
        return (
            f"{method} {path}{draw.choice(QUERIES)} HTTP/1.1\r\n"
            f"Host: t\r\nUser-Agent: {draw.choice(AGENTS)}\r\n{draw.choice(HEADERS)}\r\n".encode()
        )

    async with serving(office) as (base, tracker):
        port = int(base.rsplit(":", 1)[1])
        await until(lambda: asyncio.sleep(0, tracker.links.get(link)))  # or each click would wait a second for it
        gets = [one.resource for one in tracker.app().router.routes() if one.method == "GET"]
        routed = {resource.canonical for resource in gets if resource}
        assert routed == known.keys() - {""}, "a route that is not looked at here"
        before = await snapshot(office, readers)
        routes = list(known.values())
        requests = [request() for _ in range(REQUESTS)]

        found = await asyncio.gather(*(answers(port, requests[at::CONNECTIONS]) for at in range(CONNECTIONS)))

        statuses = [status for one in found for status in one]
        assert len(statuses) == REQUESTS
        # 405: what takes only POST.
        assert {*statuses} == {200, 204, 302, 404, 405}
        assert await snapshot(office, readers) == before
        # Nor does anything that comes of them later: ingested, judged and folded.
        await tracker.finish()
        await ripen(office.pool, fold_signs, retell=retell)
        await fold(office.pool)
        assert await office.pool.fetchval("select count(*) from pending") == 0
        assert await office.pool.fetchval("select count(distinct contact_id) from event where job_id > 1000") == 20
        assert await office.pool.fetchval("select score from engagement where contact_id = $1", readers[0]) == 5
        assert await snapshot(office, readers) == before

        leave = [
            one_click(tokens.unsubscribe_url("", tokens.contact_token(KEYS, contact, 1)), multipart=bool(at % 2))
            for at, contact in enumerate(contacts)
        ]
        for _ in range(2):  # the second time changes nothing more
            gone = await asyncio.gather(*(answers(port, leave[at::5]) for at in range(5)))
            assert {status for one in gone for status in one} == {200}
            assert await office.pool.fetchval(
                "select count(*) from subscription where status = 'unsubscribed' and changed_by = 'one_click'"
            ) == len(contacts) - len(left)


def link_tokens(job: int, link: int) -> list[str]:
    return [tokens.link_token(KEYS, purpose, job, link) for purpose in (Purpose.OPEN, Purpose.CLICK)]
