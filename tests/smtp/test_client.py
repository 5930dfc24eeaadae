"""Dialogues as text, one file of them: what the server says, what we say, what comes of it."""

import gc
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.shape import Extension
from mtad.smtp.client import Client
from mtad.smtp.offers import Offers, offers_in
from mtad.smtp.reply import Reply
from mtad.smtp.results import Accepted, Lost, Refused, Result, Stage, TooLate
from mtad.smtp.waits import WAITS, WATCHDOG

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MESSAGE = b"Subject: hi\r\n\r\n.body\r\n"
ON_THE_WIRE = b"Subject: hi\r\n\r\n..body\r\n.\r\n"
BIG = b"Subject: big\r\n\r\n" + (b"x" * 70 + b"\r\n") * 1000


def dialogues() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (Path(__file__).parent / "dialogues.txt").read_text().splitlines():
        if line.startswith("== "):
            found[line[3:]] = []
        elif line and not line.startswith("#"):
            found[list(found)[-1]].append(line)
    return found


DIALOGUES = dialogues()


class Noting(Client):
    """Notes which answers it got in which states."""

    def __init__(self, hostname: str, host: str, *, try_tls: bool, login: tuple[str, str] | None) -> None:
        super().__init__(hostname, host, try_tls=try_tls, login=login)
        self.noted: set[tuple[Stage, int]] = set()

    def _answer(self, reply: Reply, at: datetime) -> None:
        if self.body is None and reply.code != 421:
            self.noted.add((self._awaited[0], reply.code // 100))
        super()._answer(reply, at)


class Stepper:
    """A shell without sockets; time passes by 1 s with everything the server says."""

    def __init__(self, login: tuple[str, str] | None = None) -> None:
        self.client = Noting("me.test", "peer", try_tls=True, login=login)
        self.client.start()
        self.now = 0.0
        self.said: list[str] = []

    def hear(self, data: bytes, *, octets: bool = False) -> None:
        self.now += 1
        for piece in [data[at : at + 1] for at in range(len(data))] if octets else [data]:
            self.client.receive(piece, NOON + timedelta(seconds=self.now))
            self.write()

    def write(self) -> None:
        self.said += self.client.take(self.now).decode().splitlines()
        if self.client.body is not None:
            chunk = self.said[-1:] != [] and self.said[-1].startswith("BDAT ")
            assert self.client.body == (self.message if chunk else ON_THE_WIRE)
            self.said.append("(message)")
            self.client.dot_written(NOON + timedelta(seconds=self.now))

    def send(self, recipient: str, *, within: float = 1000, message: bytes = MESSAGE) -> None:
        self.message = message
        self.client.begin("b@us.test", recipient, message, self.now + within)
        self.write()


def summary(result: Result) -> str:
    match result:
        case Accepted():
            return f"accepted {result.text}"
        case Refused():
            return f"refused at {result.stage.name}: {result.text}"
        case Lost():
            return f"lost at {result.stage.name}: {result.why}"
        case TooLate():
            return "too late"


def play(dialogue: list[str], *, octets: bool = False) -> set[tuple[Stage, int]]:
    """Which answers came in which states; `octets`: they come an octet at a time."""
    stepper = Stepper(("me", "secret") if "login" in dialogue else None)
    client = stepper.client
    for line in dialogue:
        kind, _, text = line.partition(" ")
        match kind:
            case "S:":
                stepper.hear(text.encode().decode("unicode_escape").encode("latin-1") + b"\r\n", octets=octets)
            case "C:":
                assert stepper.said[:1] == [text], line
                stepper.said.pop(0)
            case "send" | "big":
                assert client.stage is None
                assert client.usable
                recipient, _, within = text.partition(" within ")
                message = MESSAGE if kind == "send" else BIG
                stepper.send(recipient or "a@x.test", within=float(within or 1000), message=message)
            case "later":
                stepper.now += float(text)
            case "tls":
                assert client.wants_tls
                assert client.stage is Stage.TLS
                client.tls_started()
                stepper.write()
            case "login":
                pass
            case "closes":
                client.closed()
            case "hangs":
                client.broke("timed out")
            case "quit":
                client.quit()
                stepper.write()
            case "=":
                result = client.take_result()
                assert result is not None
                assert summary(result) == text
            case "waits":
                assert client.stage is Stage[text]
            case "ready" | "over":
                assert client.stage is None
                assert client.usable is (kind == "ready"), line
            case _:
                raise AssertionError(f"no such word: {line!r}")
    assert stepper.said == []
    assert client.take_result() is None
    return client.noted


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue(name: str) -> None:
    play(DIALOGUES[name])


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue_does_not_depend_on_how_bytes_arrive(name: str) -> None:
    play(DIALOGUES[name], octets=True)


def test_every_answer_in_every_state_stands_in_a_dialogue() -> None:
    """So nothing in the table of states is there without a text that shows what it means."""
    table = Client._MEANING

    noted = set().union(*map(play, DIALOGUES.values()))

    assert {(stage, digit) for stage in table for digit in (2, 3, 4, 5)} - noted == set()


def test_an_answer_that_was_not_asked_for_ends_the_opening() -> None:
    stepper = Stepper()
    stepper.hear(b"220 hi\r\n")
    stepper.hear(b"250 peer\r\n250 more\r\n")

    assert not stepper.client.usable
    assert stepper.client.take_result() == Lost(Stage.EHLO, "the server answered what was not asked", "peer")


def test_acceptance_has_the_time_of_the_dot_and_of_the_reply() -> None:
    stepper = Stepper()
    for line in (b"220 hi", b"250-peer\r\n250 PIPELINING"):
        stepper.hear(line + b"\r\n")
    stepper.send("a@x.test", within=10)
    stepper.hear(b"250 a\r\n250 b\r\n354 c\r\n")
    stepper.hear(b"250 2.0.0 kept\r\n")

    assert stepper.client.take_result() == Accepted(
        "250 2.0.0 kept", NOON + timedelta(seconds=3), NOON + timedelta(seconds=4), "peer"
    )


def test_a_client_that_is_done_leaves_nothing_to_the_garbage_collector() -> None:
    stepper = Stepper()
    for line in (b"220 hi", b"250-peer\r\n250 PIPELINING"):
        stepper.hear(line + b"\r\n")
    gone = weakref.ref(stepper.client)

    gc.disable()
    try:
        del stepper
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("recipient", "message"),
    [("a@x.test\r\nRSET", MESSAGE), ("a@x.test", b"bare\nLF\r\n"), ("", MESSAGE), ("a@x.test", b"nul\0\r\n")],
)
def test_what_must_not_go_on_the_wire_changes_nothing(recipient: str, message: bytes) -> None:
    stepper = Stepper()
    for line in (b"220 hi", b"250-peer\r\n250 PIPELINING"):
        stepper.hear(line + b"\r\n")
    stepper.said.clear()

    with pytest.raises(ValueError, match=r"cannot stand|bare|NUL"):
        stepper.client.begin("b@us.test", recipient, message, 1000)

    stepper.write()
    assert stepper.said == []
    assert stepper.client.stage is None
    assert stepper.client.usable


def test_non_ascii_needs_what_the_server_offers() -> None:
    message = "Subject: hi\r\n\r\nä\r\n".encode()
    client = Client("me.test", "peer", try_tls=True)

    client.begin("b@us.test", "a@x.test", message, 1000)
    refusal = client.take_result()
    client.offers = Offers(eight_bit=True, pipelining=True)
    client.begin("b@us.test", "a@x.test", message, 1000)

    assert isinstance(refusal, Refused)
    assert (refusal.code, refusal.enhanced) == (554, "5.6.3")
    assert b"MAIL FROM:<b@us.test> BODY=8BITMIME\r\n" in client.take(0)


@pytest.mark.parametrize("parameter", ["", "0", "x", "-5", "٣", "9" * 900])
def test_a_size_that_says_nothing_is_no_limit(parameter: str) -> None:
    offers = offers_in(Reply(250, (b"peer", f"size {parameter}".encode())))

    assert offers.size
    assert offers.refusal(10_000_000, utf8=False, eight_bit=False) is None


def test_what_is_ignored_is_as_if_it_were_not_offered() -> None:
    reply = Reply(250, (b"peer", b"Pipelining", b"CHUNKING", b"SIZE 1000", b"8BITMIME", b"SMTPUTF8", b"STARTTLS"))

    assert offers_in(reply, get_args(Extension)) == Offers(starttls=True)
    assert offers_in(reply, ("SIZE", "CHUNKING")) == Offers(pipelining=True, eight_bit=True, utf8=True, starttls=True)


def test_every_stage_has_a_time_and_a_phrase() -> None:
    assert set(WAITS) == set(Stage)
    assert all(wait.seconds > 0 and wait.phrase for wait in WAITS.values())


def test_the_watchdog_cuts_no_server_that_is_merely_slow() -> None:
    """A mail of one piece, with every wait as long as it may be, is over before it."""
    message = (Stage.RSET, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.BODY, Stage.DOT)

    assert 2 * sum(WAITS[stage].seconds for stage in message) < WATCHDOG


GREETED = [b"220 hi\r\n", b"250-peer\r\n250 PIPELINING\r\n"]
GREETINGS = [
    [],
    GREETED,
    [b"220 hi\r\n", b"250-peer\r\n250-CHUNKING\r\n250 PIPELINING\r\n", b"250 a\r\n250 b\r\n", b"250 kept\r\n"],
    [b"220 hi\r\n", b"250-peer\r\n250 CHUNKING\r\n"],
]
ANSWERS = [
    *GREETED,
    b"250 peer\r\n",
    b"250 ok\r\n",
    b"354 go\r\n",
    b"450 later\r\n",
    b"550 no\r\n",
    b"421 bye\r\n",
    b"250 a\r\n250 b\r\n354 c\r\n",
    b"250 a\r\n550 b\r\n354 c\r\n",
    b"250 a\r\n250 b\r\n250 c\r\n",
    b"250 a\r\n550 b\r\n503 c\r\n",
    b"garbage\r\n",
    b"25",
]
answers = st.one_of(st.sampled_from(ANSWERS), st.binary(max_size=5))
conversations = st.tuples(st.sampled_from(GREETINGS), st.lists(answers, max_size=25)).map(lambda two: two[0] + two[1])


@given(conversations)
def test_whatever_a_server_says_each_message_has_one_result(said: list[bytes]) -> None:
    """And DOT is where it was lost exactly when the message was written."""
    stepper = Stepper()
    begun = 0
    opened = False
    results: list[Result] = []

    def settle() -> None:
        result = stepper.client.take_result()
        if result is not None:
            results.append(result)
            written = "(message)" in stepper.said
            assert written or not isinstance(result, Accepted)
            if isinstance(result, Lost):
                assert written == (result.stage is Stage.DOT)

    for data in said:
        if stepper.client.usable and stepper.client.stage is None:
            opened = True
            stepper.said.clear()
            stepper.send("a@x.test", within=1000)
            begun += 1
        stepper.hear(data)
        settle()
    opened = opened or (stepper.client.usable and stepper.client.stage is None)
    stepper.client.closed()
    settle()

    assert len(results) == (begun if opened else 1)
    assert not stepper.client.usable
