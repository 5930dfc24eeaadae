"""Doors answer what aiohttp would, byte for byte, and leave to it whatever is not plain."""

import asyncio
import contextlib
import itertools
import random
import re
from collections.abc import AsyncIterator, Sequence

import pytest
from aiohttp import web

from mtad.base.clock import SystemClock
from tests.tracker.made import KEYS
from tests.tracker.outside import AGENT, Outside, clicked, forged, leaving, opened, request, slowly
from tracker.door import ENOUGH, MOST_HEAD
from tracker.hits import Hit
from tracker.links import Link
from tracker.plain import MOST_BYTES, MOST_HEADERS, read_plain
from tracker.web import make_app, make_runner


class Both:
    """The same tracker twice: with doors, and without."""

    def __init__(self) -> None:
        self.outsides = (Outside(), Outside())
        self.ports: list[int] = []

    async def ask(self, *chunks: bytes) -> tuple[list[bytes], list[list[tuple[object, ...]]]]:
        """What each answered to the same bytes in the same pieces, but for the date, and what each noted."""
        said, noted = [], []
        for port, outside in zip(self.ports, self.outsides, strict=True):
            outside.hits.clear()
            said.append(await _said(port, chunks))
            noted.append([_without_time(hit) for hit in outside.hits])
        return said, noted


@pytest.fixture
async def both(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Both]:
    made = Both()
    runners = []
    for outside in made.outsides:
        for link, url in ((3, "https://a.test/ü?ключ=%zz"), (4, ""), (5, "https://b.test/{0}"), (6, "https://c/\x01")):
            outside.links[link] = Link(url, tracked=True, message_id=1)
        app = make_app(
            keys=KEYS, links=outside, record=outside.record, unsubscribe=outside.unsubscribe,
            trusted_proxies=["127.0.0.0/8"], ready=lambda: True, clock=SystemClock(),
        )  # fmt: skip
        runner = make_runner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.ports.append(runner.addresses[0][1])
        runners.append(runner)
        # The second one has no doors: its listener is aiohttp's own.
        monkeypatch.setattr(type(runner), "server", web.AppRunner.server)
    yield made
    for runner in runners:
        await runner.cleanup()


async def _said(port: int, chunks: Sequence[bytes]) -> bytes:
    """The answer to one request; all answers where the last request asks to close."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for chunk in chunks:
            writer.write(chunk)
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            if chunks[-1] == LAST:
                said = await reader.read()
            else:
                said = await reader.readuntil(b"\r\n\r\n")
                if said.startswith(b"HTTP/1.1 100"):
                    said += await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", said)
                if length:
                    said += await reader.readexactly(int(length[1]))
    except asyncio.IncompleteReadError as error:
        said = error.partial  # hung up
    finally:
        writer.close()
    return re.sub(rb"Date: [^\r]*", b"Date: now", said)


def _without_time(hit: Hit) -> tuple[object, ...]:
    return hit.kind, hit.method, hit.agent, hit.network, hit.job_id, hit.link_id


LAST = request("/healthz", "Connection: close\r\n")

PLAIN = {
    "pixel": request(opened()),
    "HEAD of a pixel": request(opened(), method="HEAD"),
    "pixel without its end": request(opened().removesuffix(".gif")),
    "forged pixel": request(forged(opened())),
    "click": request(clicked()),
    "HEAD of a click": request(clicked(), method="HEAD"),
    "click with values": request(clicked(link=5, values=("a/b &", "..", ""))),
    "no agent": request(opened(), ""),
    "behind a proxy": request(opened(), AGENT + "X-Forwarded-For: 6.6.6.6, 198.51.100.7\r\n"),
    "prefetch": request(clicked(), AGENT + "SEC-purpose: Prefetch;prerender\r\n"),
    "kept alive": request(clicked(), AGENT + "Connection:  Keep-Alive \r\nAccept: */*\r\nCookie: a=b\r\n"),
    "blanks and tabs": request(opened(), "User-Agent: \t a\tb  \r\nX-Forwarded-For:198.51.100.7\r\nPurpose:\r\n"),
}
OTHER = {
    "click that is wrong": request(forged(clicked())),
    "click to nowhere": request(clicked(link=4)),
    "link that nobody knows": request(clicked(link=9)),
    "link with a control character": request(clicked(link=6)),
    "values as they were not signed": request(clicked(link=5, values=("a",)).replace("-a", "-b")),
    "click with a pixel's end": request(clicked() + ".gif"),
    "pixel with values": request(opened().removesuffix(".gif") + "/-a"),
    "query": request(opened() + "?x=1"),
    "another spelling": request(opened().replace("/o/", "/%6f/")),
    "whole URL": request("http://t.y.test" + opened()),
    "to leave": request(leaving()),
    "robots": request("/robots.txt"),
    "nowhere": request("/x"),
    "POST": request(opened(), AGENT + "Content-Length: 0\r\n", "POST"),
    "with a length": request(opened(), AGENT + "Content-Length: 0\r\n"),
    "with a body": request(opened(), AGENT + "Content-Length: 3\r\n") + b"abc",
    "chunked": request(opened(), AGENT + "Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
    "old": request(opened(), version="HTTP/1.0"),
    "to be closed": request(opened(), AGENT + "Connection: close\r\n"),
    "upgrade": request(opened(), AGENT + "Connection: upgrade\r\nUpgrade: h2c\r\n"),
    "expects": request(opened(), AGENT + "Expect: 100-continue\r\n"),
    "two proxies' headers": request(opened(), AGENT + "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 10.1.1.1\r\n"),
    "two hosts": request(opened(), AGENT + "Host: b.test\r\n"),
    "folded": request(opened(), "User-Agent: a\r\n b\r\n"),
    "bytes above ASCII": request(opened(), "User-Agent: \xe4\xff\r\n"),
    "a NUL": request(opened(), "User-Agent: a\x00b\r\n"),
    "a bare LF": request(opened(), "User-Agent: a\nb: c\r\n"),
    "blank before the colon": request(opened(), "User-Agent : a\r\n"),
    "no name": request(opened(), ": a\r\n"),
    "no colon": request(opened(), "a\r\n"),
    "no host": request(opened()).replace(b"Host: t.y.test\r\n", b""),
    "long": request(opened(), "A: " + "x" * MOST_BYTES + "\r\n"),
    "many headers": request(opened(), "".join(f"A{n}: b\r\n" for n in range(MOST_HEADERS))),
    "a header behind the head": request(opened()) + b"X-Forwarded-For: 198.51.100.7\r\n",
    "a head behind the head": request(opened()) + b"X-Forwarded-For: 198.51.100.7\r\n\r\n",
}


@pytest.mark.parametrize("plain", PLAIN.values(), ids=PLAIN)
async def test_plain_requests_get_aiohttps_answer(both: Both, plain: bytes) -> None:
    assert read_plain(plain) is not None
    said, noted = await both.ask(plain, LAST)

    assert said[0] == said[1]
    assert said[0].startswith((b"HTTP/1.1 200 OK", b"HTTP/1.1 302 Found"))
    assert noted[0] == noted[1]


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
async def test_other_requests_are_aiohttps(both: Both, other: bytes) -> None:
    said, noted = await both.ask(other)

    assert said[0] == said[1]
    assert noted[0] == noted[1]


async def test_answers_do_not_depend_on_how_requests_are_cut_and_put_together(both: Both) -> None:
    """Seeded: pipelines of plain and other requests, cut anywhere."""
    draw = random.Random(8058)
    keep = ("with a length", "robots", "to leave", "query", "link that nobody knows", "click that is wrong")
    choice = [*PLAIN.values(), *(OTHER[name] for name in keep)]
    for _ in range(60):
        data = b"".join(draw.choices(choice, k=draw.randint(1, 4)))
        cuts = sorted(draw.choices(range(len(data)), k=draw.randint(0, 3)))
        chunks = [data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)])]

        said, noted = await both.ask(*chunks, LAST)

        assert said[0] == said[1], chunks
        assert noted[0] == noted[1], chunks


async def test_what_still_reads_as_plain_with_bytes_changed_gets_aiohttps_answer(both: Both) -> None:
    """Seeded. What does not is aiohttp's anyway."""
    draw = random.Random(9112)
    odd = [
        b"",
        b" ",
        b"\t",
        b"\r",
        b"\n",
        b"\r\n",
        b":",
        b"\0",
        b"\x7f",
        b"\xff",
        b"/",
        b"%",
        b"?",
        b"-",
        b"A",
        b"1",
        b",",
    ]
    found = []
    for _ in range(5000):
        data = draw.choice(list(PLAIN.values()))
        for _ in range(draw.randint(1, 2)):
            place = draw.randrange(len(data))
            data = data[:place] + draw.choice(odd) + data[place + draw.randint(0, 1) :]
        if read_plain(data):
            found.append(data)

    assert len(found) > 200
    for data in draw.sample(found, 150):
        said, noted = await both.ask(data, LAST)

        assert said[0] == said[1], data
        assert noted[0] == noted[1], data


async def test_one_connection_serves_many_plain_requests_and_then_others(both: Both) -> None:
    port = both.ports[0]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for path, status in ((opened(), 200), (clicked(), 302), (leaving(), 200), (opened(), 200)):
        writer.write(request(path))
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None
        await reader.readexactly(int(length[1]))
        assert int(head[9:12]) == status
    writer.close()

    assert len(both.outsides[0].hits) == 4


async def test_who_never_ends_a_request_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.web.KEEPALIVE", 0.01)
    async with slowly() as (port, asked, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST " + leaving().encode() + b" HTTP/1.1\r\nHost: t\r\n")

        # A reset, where the machine let the time pass before the request was read.
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert not asked.is_set()
        writer.close()


TOO_LONG = b"HTTP/1.1 431 "


@pytest.mark.parametrize("end", [b"", b"\r\n"])
async def test_a_head_that_is_too_long_is_refused_whole_or_not(both: Both, end: bytes) -> None:
    long = request(opened(), "".join(f"A{n}: {'x' * 1000}\r\n" for n in range(MOST_HEAD // 1000 + 1)))
    for cut in (0, 9000):
        reader, writer = await asyncio.open_connection("127.0.0.1", both.ports[0])
        writer.write(long[:cut])
        await asyncio.sleep(0)
        writer.write(long[cut:-2] + end)
        said = TOO_LONG
        with contextlib.suppress(ConnectionResetError):  # it came to what we had not read any more
            async with asyncio.timeout(10):
                said = await reader.read()
        writer.close()
        assert said.startswith(TOO_LONG)

    assert both.outsides[0].hits == []


async def test_a_lone_request_is_taken_at_once_and_others_when_enough_have_come(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.door.APART", 3600.0)
    wires = [await asyncio.open_connection("127.0.0.1", both.ports[0]) for _ in range(ENOUGH)]
    async with asyncio.timeout(60):
        for some in (wires[:1], wires):
            for _, writer in some:
                writer.write(request(clicked()))
            for reader, _ in some:
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 302 Found")
    for _, writer in wires:
        writer.close()

    noted = [hit.at for hit in both.outsides[0].hits]
    assert noted[0] < noted[1] == noted[-1], "those taken together have one time"


async def test_answers_come_in_the_order_of_the_requests() -> None:
    async with slowly() as (port, asked, durable):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(opened(), method="HEAD"))
        await asked.wait()
        writer.write(request(forged(opened())))  # noted nowhere, so answered at once
        await _said(port, [LAST])  # a round trip later
        writer.write(LAST)
        durable.set()
        said = await reader.read()
        writer.close()

    assert [len(part) for part in re.split(rb"HTTP/1.1 200 OK.*?\r\n\r\n", said, flags=re.DOTALL)] == [0, 0, 43, 3]


async def test_who_waits_for_the_disk_is_answered_before_the_server_is_gone() -> None:
    async with slowly() as (port, asked, durable):
        _, idle = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(opened()))
        await asked.wait()
        asyncio.get_running_loop().call_soon(durable.set)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
    idle.close()
    writer.close()
