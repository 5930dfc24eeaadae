"""Dialogues as text, one file of them: what the server says, what we say, what comes of it."""

import gc
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.smtp.client import WAITS, Client
from mtad.smtp.results import Accepted, Lost, Refused, Result, Stage, TooLate

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MESSAGE = b"Subject: hi\r\n\r\n.body\r\n"
ON_THE_WIRE = b"Subject: hi\r\n\r\n..body\r\n.\r\n"


def dialogues() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (Path(__file__).parent / "dialogues.txt").read_text().splitlines():
        if line.startswith("== "):
            found[line[3:]] = []
        elif line and not line.startswith("#"):
            found[list(found)[-1]].append(line)
    return found


DIALOGUES = dialogues()


class Stepper:
    """A shell without sockets; time passes by 1 s with everything the server says."""

    def __init__(self) -> None:
        self.client = Client("me.test", "peer", try_tls=True)
        self.client.start()
        self.now = 0.0
        self.said: list[str] = []

    def hear(self, data: bytes) -> None:
        self.now += 1
        self.client.receive(data, NOON + timedelta(seconds=self.now))
        self.write()

    def write(self) -> None:
        self.said += self.client.take(self.now).decode().splitlines()
        if self.client.body is not None:
            assert self.client.body == ON_THE_WIRE
            self.said.append("(message)")
            self.client.dot_written(NOON + timedelta(seconds=self.now))

    def send(self, recipient: str, *, within: float) -> None:
        self.client.begin("b@us.test", recipient, MESSAGE, self.now + within)
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


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue(name: str) -> None:
    stepper = Stepper()
    client = stepper.client
    for line in DIALOGUES[name]:
        kind, _, text = line.partition(" ")
        match kind:
            case "S:":
                stepper.hear(text.encode().decode("unicode_escape").encode("latin-1") + b"\r\n")
            case "C:":
                assert stepper.said[:1] == [text], line
                stepper.said.pop(0)
            case "send":
                assert client.stage is None
                assert client.usable
                recipient, _, within = text.partition(" within ")
                stepper.send(recipient or "a@x.test", within=float(within or 1000))
            case "tls":
                assert client.wants_tls
                assert client.stage is Stage.TLS
                client.tls_started()
                stepper.write()
            case "closes":
                client.closed()
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
                raise AssertionError(f"{line!r} in {name}")
    assert stepper.said == []
    assert client.take_result() is None


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
    client.extensions = {"8BITMIME": "", "PIPELINING": ""}
    client.begin("b@us.test", "a@x.test", message, 1000)

    assert isinstance(refusal, Refused)
    assert (refusal.code, refusal.enhanced) == (554, "5.6.3")
    assert b"MAIL FROM:<b@us.test> BODY=8BITMIME\r\n" in client.take(0)


def test_every_stage_has_a_time_and_a_phrase() -> None:
    assert set(WAITS) == set(Stage)
    assert all(wait.seconds > 0 and wait.phrase for wait in WAITS.values())


GREETED = [b"220 hi\r\n", b"250-peer\r\n250 PIPELINING\r\n"]
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
    b"garbage\r\n",
    b"25",
]
answers = st.one_of(st.sampled_from(ANSWERS), st.binary(max_size=5))
conversations = st.tuples(st.sampled_from([[], GREETED]), st.lists(answers, max_size=25)).map(
    lambda two: two[0] + two[1]
)


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
