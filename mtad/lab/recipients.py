"""Simulated recipients: they read the mail that arrived and act on it over real HTTP.

Who somebody is follows from the address and a seed, so a run can be repeated. What
they do with a mail is planned by a pure function and then done, in the demo's days.
"""

import asyncio
import hashlib
import random
from collections import Counter
from enum import StrEnum

import aiohttp
import msgspec

from mtad.base.clock import Clock
from mtad.lab.letter import Letter, read_letter
from mtad.lab.sink import Received


class Character(StrEnum):
    """What somebody does with mail."""

    READER = "reader"  # opens and clicks the first two mails: 5 + 10 and 5 make 20
    OPENER = "opener"  # opens each mail and clicks none
    LURKER = "lurker"  # opens the first mail and then no more
    LEAVER = "leaver"  # opens the first, unsubscribes by one click from the second
    SCANNER = "scanner"  # a gateway that fetches everything at once; nobody behind it reads
    APPLE = "apple"  # a privacy proxy that loads every picture, read or not
    SILENT = "silent"


# Of 100 recipients. A list, so that the order and with it the choice is fixed.
SHARES = [
    (Character.READER, 24),
    (Character.OPENER, 14),
    (Character.LURKER, 8),
    (Character.LEAVER, 5),
    (Character.SCANNER, 9),
    (Character.APPLE, 4),
    (Character.SILENT, 36),
]

# The silent answer nothing of the series; the one mail that asks whether to go on, some do.
SERIES_MAILS = 3
RETURNS = 0.35

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"
# Gmail loads pictures through its proxy when a person opens the mail.
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
APPLE_PROXY = "Mozilla/5.0"
GATEWAY = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36"


class Act(msgspec.Struct, frozen=True):
    """One request, so many days after the mail arrived."""

    after: float
    method: str
    url: str
    agent: str
    kind: str  # open, click, scan, leave
    form: str = ""


def character_of(address: str, seed: int) -> Character:
    """Who somebody is: the same for the same address and seed."""
    ticket = random.Random(f"{seed}:{address.lower()}").randrange(sum(share for _, share in SHARES))  # noqa: S311
    for character, share in SHARES:
        if ticket < share:
            return character
        ticket -= share
    raise AssertionError


def network_of(address: str) -> str:
    """Where somebody's requests come from: an address of 198.18.0.0/15, RFC 2544's test network."""
    digest = hashlib.blake2b(address.lower().encode(), digest_size=3).digest()
    return f"198.{18 + digest[0] % 2}.{digest[1]}.{digest[2]}"


def plan(character: Character, number: int, letter: Letter, dice: random.Random) -> list[Act]:
    """What this character does with the `number`-th mail, counted from 1."""
    agent = dice.choice((FIREFOX, IPHONE, GMAIL))
    browser = IPHONE if agent == IPHONE else FIREFOX
    # The second answer, or a farewell to the second mail, comes late: the next mail is often queued by then.
    opened = dice.uniform(1.5, 7.0) if number == 2 else dice.uniform(0.5, 2.5)
    opening = [Act(opened, "GET", url, agent, "open") for url in letter.images]
    acts: list[Act] = []
    match character:
        case Character.READER if number <= 2:
            clicked = opened + dice.uniform(0.5, 1.5)
            links = dice.sample(letter.links, k=min(1, len(letter.links)))
            acts = opening + [Act(clicked, "GET", url, browser, "click") for url in links]
        case Character.OPENER:
            acts = opening
        case Character.LURKER | Character.LEAVER if number == 1:
            acts = opening
        case Character.LEAVER if number == 2 and letter.one_click:
            # RFC 8058 section 3.2: this form, no cookies, and no need for a user agent.
            form = "List-Unsubscribe=One-Click"
            acts = [Act(dice.uniform(3.2, 5.0), "POST", letter.one_click, "", "leave", form)]
        case Character.SCANNER:
            urls = [*letter.links, *letter.images, *([letter.one_click] if letter.one_click else [])]
            acts = [Act(0.0, method, url, GATEWAY, "scan") for url in urls for method in ("HEAD", "GET")]
        case Character.APPLE:
            acts = [Act(0.2, "GET", url, APPLE_PROXY, "open") for url in letter.images]
        case Character.SILENT if number > SERIES_MAILS and letter.links and dice.random() < RETURNS:
            acts = [Act(dice.uniform(0.5, 2.0), "GET", letter.links[0], browser, "click")]
        case _:
            pass
    return acts


def reads(character: Character, number: int) -> bool:
    """Whether a person would read the `number`-th mail of series and newsletter: as `plan`, of any letter."""
    match character:
        case Character.OPENER:
            return True
        case Character.READER:
            return number <= 2
        case Character.LURKER | Character.LEAVER:
            return number == 1
        case _:
            return False


class Recipients:
    """Everybody who gets mail from the sink, `day` seconds a day.

    `deliver` takes each copy (give it to the sink as `arrived`); `run` acts until
    cancelled. A second copy of a mail is not read again. `done` counts the answered
    requests by (character, kind), `failed` tells of those that were answered wrongly.
    """

    TRIES = 4  # of a request whose connection was lost, as when a worker is killed

    def __init__(self, clock: Clock, *, seed: int, day: float, besides: frozenset[str] = frozenset()) -> None:
        self.done: Counter[tuple[Character, str]] = Counter()
        self.failed: list[str] = []
        self._clock = clock
        self._seed = seed
        self._day = day
        self._besides = besides
        self._arrived: asyncio.Queue[Received] = asyncio.Queue()
        self._mails: Counter[str] = Counter()
        self._read: set[tuple[str, str]] = set()
        self._busy = 0

    @property
    def busy(self) -> int:
        """Mails not read yet, and requests planned or under way."""
        return self._arrived.qsize() + self._busy

    def deliver(self, copy: Received) -> None:
        """Lay a copy into its recipient's mailbox; those of `besides` read for themselves."""
        if copy.recipient.lower() not in self._besides:
            self._arrived.put_nowait(copy)

    async def run(self) -> None:
        # No cookies, no redirects: mail programs have no jar, and the target is not ours.
        connector = aiohttp.TCPConnector(limit=256)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept"),
                timeout=aiohttp.ClientTimeout(total=20),
            ) as http,
            asyncio.TaskGroup() as tasks,
        ):
            while True:
                copy = await self._arrived.get()
                for act, character in self._acts(copy):
                    self._busy += 1
                    task = tasks.create_task(self._do(http, act, character, network_of(copy.recipient)))
                    task.add_done_callback(self._rest)

    def _rest(self, _: asyncio.Task[None]) -> None:
        self._busy -= 1

    def _acts(self, copy: Received) -> list[tuple[Act, Character]]:
        mail = (copy.recipient, copy.header("Message-ID"))
        character = character_of(copy.recipient, self._seed)
        if mail in self._read:
            return []
        self._read.add(mail)
        self._mails[copy.recipient] += 1
        number = self._mails[copy.recipient]
        # The silent do not even look; parsing what they got was a third of the demo's own work.
        if character is Character.SILENT and number <= SERIES_MAILS:
            return []
        dice = random.Random(f"{self._seed}:{copy.recipient}:{number}")  # noqa: S311 - repeatable on purpose
        return [(act, character) for act in plan(character, number, read_letter(copy.message), dice)]

    async def _do(self, http: aiohttp.ClientSession, act: Act, character: Character, network: str) -> None:
        if act.after:
            await self._clock.sleep(act.after * self._day)
        headers = {"X-Forwarded-For": network}
        if act.agent:
            headers["User-Agent"] = act.agent
        if act.form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        for attempt in range(1, self.TRIES + 1):
            try:
                async with http.request(
                    act.method, act.url, data=act.form or None, headers=headers, allow_redirects=False
                ) as response:
                    await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                if attempt == self.TRIES:
                    self.failed.append(f"{act.kind}: {act.method}: {type(error).__name__}")
                await self._clock.sleep(0.2 * attempt)
                continue
            if response.status >= 400 or (act.kind == "leave" and response.status != 200):
                self.failed.append(f"{act.kind}: {act.method} was answered {response.status}")
            self.done[character, act.kind] += 1
            return
