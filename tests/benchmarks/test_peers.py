import json
from collections.abc import Callable, Mapping
from pathlib import Path

import dkim
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import postfix, scripts
from benchmarks.children import prepared
from benchmarks.comparison import Ours, Round, compared
from benchmarks.inject import Injected
from benchmarks.mails import Mail, read_mails, unsigned, write_mails
from benchmarks.relay import Relayed
from benchmarks.scripts import SIGNERS, Scripted
from mtad.base.errors import Problem, Unavailable
from mtad.dkim.keys import dns_record, new_key, read_key
from mtad.lab.sink import Sink
from mtad.lab.verify import Verifier
from tests.benchmarks.program import run

MESSAGE = (
    b"From: Example <news@example.com>\r\nTo: p{}@x.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=, what is new\r\n"
    b"Date: Sun, 22 Nov 2026 20:04:52 +0000\r\nMessage-ID: <{}@example.com>\r\n"
    b"List-Unsubscribe: <http://127.0.0.1/u/1>,\r\n <mailto:u@example.com>\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/alternative; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello  Ada \r\n.\r\n.. two dots\r\n"
    b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Hello Ada</p>\r\n--b--\r\n"
)
KEY = new_key()
SIGNATURE = b"DKIM-Signature: v=1; a=rsa-sha256;\r\n\tb=abc\r\n\t def\r\n"


def mails(count: int) -> list[Mail]:
    return [
        Mail("bounce@example.com", f"p{number}@x.test", MESSAGE.replace(b"{}", str(number).encode()))
        for number in range(count)
    ]


def postfix_can_run() -> bool:
    try:
        postfix.require_packages()
    except Unavailable:
        return False
    return True


@pytest.mark.skipif(not postfix_can_run(), reason="needs root and the Debian packages postfix and opendkim")
def test_toy_run_compares_signed_mail_of_all_peers(tmp_path: Path) -> None:
    out = tmp_path / "peers.json"
    code, said = run(
        "peers", "--messages", "40", "--rounds", "1", "--script-messages", "20", "--processes", "1", "--workers", "1",
        "--limit", "280", "--json", str(out),
    )  # fmt: skip

    assert code == 0, said
    found = json.loads(out.read_bytes())
    rates = found["compared"]["rates"]
    assert found["verified"] == {"mtad": 20, "postfix": 20, "dkimpy": 20, "cryptography": 20}
    assert found["mails"]["messages"] == 40
    assert found["mails"]["unsigned_bytes"] < found["mails"]["message_bytes"] < 16_000
    assert found["ratio_to_postfix"] == pytest.approx(found["mtad_rate"] / found["postfix_rate"], abs=0.01)
    assert found["postfix_rate"] == max(rates["postfix_at_once_rate"], rates["postfix_held_rate"])
    assert found["mtad_rate"] < rates["mtad_delivery_rate"]
    assert rates["postfix_held_rate"] < rates["postfix_injection_rate"]
    for name in ("script_dkimpy_rate", "script_cryptography_rate"):
        assert found[name] > 0, name


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--messages", "50001"], "--messages: 20 to 50,000"),
        (["--messages", "19"], "--messages: 20 to 50,000"),
        (["--rounds", "0"], "--rounds: at least 1"),
        (["--postfix-option", "smtp_tls"], "smtp_tls: write NAME=VALUE"),
        (["--postfix-queue", "/nowhere"], "/nowhere: there is no such folder"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(arguments: list[str], said: str) -> None:
    code, stderr = run("peers", *arguments)

    assert code not in (0, 1)
    assert said in stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda patch: patch.setattr(postfix, "_DAEMONS", "/nowhere"), "apt install postfix"),
        (lambda patch: patch.setattr(postfix, "_SEARCH", ""), "apt install opendkim"),
        (lambda patch: patch.setattr("os.geteuid", lambda: 1000), "run this benchmark as root"),
    ],
)
def test_what_is_missing_is_one_clear_line(
    break_it: Callable[[pytest.MonkeyPatch], None], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Each is looked for after the ones before, which are there.
    (tmp_path / "master").touch()
    (tmp_path / "opendkim").touch(mode=0o755)
    monkeypatch.setattr(postfix, "_DAEMONS", str(tmp_path))
    monkeypatch.setattr(postfix, "_SEARCH", str(tmp_path))
    break_it(monkeypatch)

    with pytest.raises(Unavailable, match=said) as raised:
        postfix.require_packages()
    assert raised.value.exit_code == 69


async def test_injector_hands_in_each_mail_once_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "mails"
    write_mails(path, mails(30))

    async with Sink() as sink:
        command = ["benchmarks.inject", "--mails", str(path), "--port", str(sink.port), "--sessions", "4"]
        async with prepared([command]) as injector:
            (line,) = await injector.work()

    assert sorted((copy.sender, copy.recipient, copy.message) for copy in sink.messages) == sorted(
        (mail.sender, mail.recipient, mail.message) for mail in mails(30)
    )
    assert sink.sessions == 4
    assert json.loads(line)["messages"] == 30
    assert set(json.loads(line)) == set(Injected.__struct_fields__)


async def test_injector_stops_at_a_refusal_with_its_words(tmp_path: Path) -> None:
    path = tmp_path / "mails"
    write_mails(path, [Mail("a@example.com", "unknown-b@x.test", MESSAGE)])

    async with Sink() as sink:
        command = ["benchmarks.inject", "--mails", str(path), "--port", str(sink.port), "--sessions", "1"]
        async with prepared([command]) as injector:
            with pytest.raises(Problem, match=r"550 5\.1\.1 no such user"):
                await injector.work()


async def test_program_that_fails_before_it_is_ready_says_why() -> None:
    with pytest.raises(Problem, match="--mails"):
        async with prepared([["benchmarks.inject"]]):
            pass


@pytest.mark.parametrize("signer", SIGNERS)
async def test_script_in_two_processes_sends_each_mail_once_and_signed(signer: str, tmp_path: Path) -> None:
    path, key = tmp_path / "mails", tmp_path / "key.pem"
    write_mails(path, mails(9))
    key.write_bytes(new_key())

    async with Sink() as sink:
        command = [
            "benchmarks.scripts", signer, "--mails", str(path), "--most", "7", "--port", str(sink.port),
            "--connections", "2", "--key", str(key), "--selector", "s", "--domain", "example.com",
        ]  # fmt: skip
        async with prepared([[*command, "--share", "0", "2"], [*command, "--share", "1", "2"]]) as children:
            lines = await children.work()

    verifier = Verifier({"s._domainkey.example.com.": dns_record(read_key(key))})
    assert sorted(copy.recipient for copy in sink.messages) == [f"p{number}@x.test" for number in range(7)]
    assert all(verifier.verify(copy.message).signed for copy in sink.messages)
    assert sum(json.loads(line)["messages"] for line in lines) == 7
    assert set(json.loads(lines[0])) == set(Scripted.__struct_fields__)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What DNS would answer for KEY."""
    path = tmp_path_factory.mktemp("key") / "key.pem"
    path.write_bytes(KEY)
    return dns_record(read_key(path)).encode()


@settings(max_examples=30)  # each is signed and verified by RSA in Python
@given(st.text("aB:; \t=é\n", max_size=40), st.text("xy \t.\n", min_size=1, max_size=60))
def test_signature_by_hand_is_one_that_dkimpy_verifies(record: bytes, subject: str, body: str) -> None:
    value = " ".join(subject.split()) or "none"
    raw = f"From: a@example.com\r\nSubject: {value}\r\n\r\nx{body}\r\n".replace("\r\n", "\n").replace("\n", "\r\n")
    message = raw.encode()
    signed = scripts._with_cryptography(KEY, "s", "example.com")(message) + message

    assert dkim.verify(signed, dnsfunc=lambda *_, **__: record)


@pytest.mark.parametrize("field", [SIGNATURE, SIGNATURE * 2, SIGNATURE.replace(b"DKIM-Signature", b"dkim-signature")])
def test_only_signatures_are_taken_out_of_a_message(field: bytes) -> None:
    last = MESSAGE.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n", 1)
    quoting = MESSAGE.replace(b"Hello  Ada", SIGNATURE)

    assert unsigned(field + MESSAGE) == MESSAGE
    assert unsigned(last) == MESSAGE
    assert unsigned(quoting) == quoting


def test_mails_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_mails(tmp_path / "mails", mails(3))

    assert read_mails(tmp_path / "mails") == mails(3)


@pytest.mark.parametrize(
    ("line", "fails"),
    [
        ("postfix/smtp[1]: A1: to=<a@x.test>, status=sent (250 ok)", False),
        ("postfix/smtp[1]: A1: to=<a@x.test>, status=deferred (451 later)", True),
        ("postfix/smtp[1]: A1: to=<a@x.test>, status=bounced (550 no)", True),
        ("postfix/cleanup[1]: A1: milter-reject: END-OF-MESSAGE 4.7.1", True),
        ("postfix/master[1]: fatal: bind 127.0.0.1 port 25", True),
    ],
)
def test_only_what_was_sent_counts_as_delivered(line: str, fails: bool, tmp_path: Path) -> None:
    instance = postfix.Postfix(tmp_path, 0, 0, 0)
    (tmp_path / "mail.log").write_text(f"{line}\npostfix/qmgr[1]: A1: removed\n")

    if fails:
        with pytest.raises(Problem):
            instance.sent()
    else:
        assert instance.sent() == 1


@pytest.mark.parametrize("name", ["incoming", "active", "deferred/A", "hold"])
def test_queue_is_empty_only_without_a_message_in_any_folder(name: str, tmp_path: Path) -> None:
    instance = postfix.Postfix(tmp_path, 0, 0, 0)
    for queue in ("incoming", "active", "deferred/A", "hold"):
        (tmp_path / "queue" / queue).mkdir(parents=True)

    assert instance.is_empty()
    (tmp_path / "queue" / name / "A1").touch()
    assert not instance.is_empty()
    assert instance.is_delivering() == (name == "active")


def relayed(seconds: float) -> Relayed:
    used = {"postfix": 2.0, "opendkim": 2.0, "sink": None, "injector": 0.1}
    return Relayed(seconds, seconds * 0.75, seconds * 0.25, used)


def round_of(mtad: float, at_once: float, held: float, found: Mapping[str, float]) -> Round:
    ours = Ours(1000, mtad - 0.5, 1000 / (mtad - 0.5), 8000.0, 0.5, {"mtad": 900.0}, 15_000, 0, 0)
    return Round(ours, relayed(at_once), relayed(held), found)


def test_postfix_counts_with_the_better_median_of_its_two_ways() -> None:
    rounds = [round_of(1, 4, 5, {"dkimpy": 80}), round_of(2, 8, 5, {"dkimpy": 90}), round_of(1, 5, 4, {})]
    found = compared(1000, rounds)

    assert found.rates.mtad_rate == 1000
    assert (found.rates.postfix_at_once_rate, found.rates.postfix_held_rate) == (200, 200)
    assert found.ratio_to_postfix == 5
    assert found.rates.mtad_delivery_rate == 2000
    assert found.rates.script_dkimpy_rate == 85
    assert found.rates.script_cryptography_rate is None
    assert found.cpu_us_per_message["postfix_held"] == {
        "postfix": 2000, "opendkim": 2000, "sink": None, "injector": 100,
    }  # fmt: skip
