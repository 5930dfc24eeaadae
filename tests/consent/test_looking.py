"""Looking is not acting: whatever is asked for by GET or HEAD, only a POST changes anything."""

import asyncio
import random
import re

from tests.consent.conftest import EVENT_TOKEN, Office, serving
from tests.tracker.made import KEYS
from tests.tracker.test_tracker import until
from tracker import tokens
from tracker.tokens import Purpose

REQUESTS = 10_000
CONNECTIONS = 250
PEOPLE = 100

# What must not move: everything about consent, modes and states, and what is queued.
KEPT = (
    "contact", "identity", "gate", "subscription", "proof", "suppression", "engagement", "transition", "entry", "job",
    "form", "form_use", "event_key", "answer",
)  # fmt: skip

QUERIES = ["", "?confirm=1", "?List-Unsubscribe=One-Click", "?act=leave&stream=1", "?act=unmeasure", "?email=x@y.test"]
HEADERS = [
    "",
    "X-HTTP-Method-Override: POST\r\n",
    "Sec-Purpose: prefetch\r\n",
    "Content-Type: application/x-www-form-urlencoded\r\n",
    "Accept-Language: de\r\nCookie: a=b\r\n",
    f"Authorization: Bearer {EVENT_TOKEN}\r\nOrigin: https://www.example.com\r\n",
]
AGENTS = ["", "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0", "curl/8", "Mozilla/5.0"]


def paths(contacts: list[int], jobs: list[int], link: int) -> dict[str, list[str]]:
    """By route, addresses on which a GET could do harm if it did anything, and some that are nobody's."""
    people = [
        (make(KEYS, contact, 1), prefix)
        for contact in [0, *contacts]
        for make, prefix in ((tokens.contact_token, "/u/"), (tokens.preferences_token, "/p/"))
    ]
    opens = [tokens.link_token(KEYS, Purpose.OPEN, job, link) for job in range(1, 20)]
    clicks = [tokens.link_token(KEYS, Purpose.CLICK, job, link) for job in range(1, 20)]
    return {
        "/u/{token}": [prefix + token for token, prefix in people if prefix == "/u/"] + ["/u/" + "A" * 36],
        "/p/{token}": [prefix + token for token, prefix in people if prefix == "/p/"] + ["/p/x"],
        "/confirm/{token}": ["/confirm/" + tokens.confirm_token(KEYS, job) for job in [0, 10**9, *jobs]],
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


async def snapshot(office: Office) -> dict[str, str]:
    query = "select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from {} t"
    return {table: await office.pool.fetchval(query.format(table)) for table in KEPT}


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
    for number in range(5):
        await office.ask(f"new{number}@reader.test")
    link = await office.pool.fetchval(
        "insert into message_link (message_id, position, url) values (1, 1, 'https://a.test/') returning id"
    )
    known = paths(contacts, await office.jobs(), link)
    draw = random.Random(8058)
    async with serving(office) as (base, tracker):
        port = int(base.rsplit(":", 1)[1])
        await until(lambda: asyncio.sleep(0, tracker.links.get(link)))  # or each click would wait a second for it
        gets = [one.resource for one in tracker.app().router.routes() if one.method == "GET"]
        routed = {resource.canonical for resource in gets if resource}
        assert routed == known.keys() - {""}, "a route that is not looked at here"
        before = await snapshot(office)
        routes = list(known.values())
        requests = [
            f"{draw.choice(('GET', 'HEAD'))} {draw.choice(draw.choice(routes))}{draw.choice(QUERIES)} HTTP/1.1\r\n"
            f"Host: t\r\nUser-Agent: {draw.choice(AGENTS)}\r\n{draw.choice(HEADERS)}\r\n".encode()
            for _ in range(REQUESTS)
        ]

        found = await asyncio.gather(*(answers(port, requests[at::CONNECTIONS]) for at in range(CONNECTIONS)))

        statuses = [status for one in found for status in one]
        assert len(statuses) == REQUESTS
        # 405: what takes only POST.
        assert {*statuses} == {200, 204, 302, 404, 405}
        assert await snapshot(office) == before

        leave = [
            one_click(tokens.unsubscribe_url("", tokens.contact_token(KEYS, contact, 1)), multipart=bool(at % 2))
            for at, contact in enumerate(contacts)
        ]
        for _ in range(2):  # the second time changes nothing more
            left = await asyncio.gather(*(answers(port, leave[at::5]) for at in range(5)))
            assert {status for one in left for status in one} == {200}
            assert await office.pool.fetchval(
                "select count(*) from subscription where status = 'unsubscribed' and changed_by = 'one_click'"
            ) == len(contacts)
