"""``python -m benchmarks.peers``: the same mails through mtad, through Postfix with OpenDKIM, and through two scripts.

mtad's mails are composed once and handed to the others without its signature; all sign
with RSA-2048 and send to smtp-sink on loopback, in turn, on the same disk. What each
clock covers, and why: benchmarks/README.md.
"""

import asyncio
import contextlib
import os
import platform
import re
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks.capture import Captured, capture, require_signed
from benchmarks.children import prepared
from benchmarks.comparison import Compared, Ours, Round, compared, table
from benchmarks.entry import command_line, finish
from benchmarks.mailing import DOMAIN
from benchmarks.mails import read_mails
from benchmarks.postfix import Tuning, require_packages
from benchmarks.relay import Load, Relayed, relay
from benchmarks.run import say
from benchmarks.scripts import SIGNERS, Scripted
from benchmarks.sinks import Receiver, receiving, smtp_sink_program
from mtad.base.errors import Problem
from mtad.dkim.keys import dns_record, new_key, read_key
from mtad.lab.verify import Verifier

MOST_MESSAGES = 50_000  # they are kept in memory before they are written down
SELECTOR = "peers"

_OPTION = re.compile(r"[a-z0-9_]+=[^\n]*")
_SAMPLE = 20  # mails of each peer that dkimpy verifies before anything is timed


class Plan(msgspec.Struct, frozen=True):
    """The command line."""

    messages: int
    size: int
    rounds: int
    domains: int
    workers: int
    sessions: int
    postfix_sessions: int
    postfix_processes: int
    postfix_concurrency: int
    postfix_option: Sequence[str]
    postfix_queue: Path | None
    skip_scripts: bool
    script_messages: int
    script_connections: int
    processes: int
    seed: int
    limit: float
    json: Path | None


class Report(msgspec.Struct, frozen=True):
    """What --json writes: rates are messages a second, medians over the rounds."""

    mtad_rate: float
    postfix_rate: float
    ratio_to_postfix: float
    script_dkimpy_rate: float | None
    script_cryptography_rate: float | None
    compared: Compared
    mails: Captured
    verified: Mapping[str, int]
    load_before: float
    command: Sequence[str]
    machine: Mapping[str, str | int]


class Bench(msgspec.Struct, frozen=True):
    """The plan, and the files that the peers read."""

    plan: Plan
    mails: Path
    key: Path


def main() -> None:
    """Run, print a table, write the JSON. A Problem is one line and its exit code."""
    plan = _plan()
    finish(
        "peers",
        measure(plan),
        limit=plan.limit,
        json=plan.json,
        line=lambda report: table(report.compared, report.mails),
        good=lambda _: True,
    )


def _plan() -> Plan:
    cores = len(os.sched_getaffinity(0))
    parser = command_line("peers", __doc__, limit=1800)
    add = parser.add_argument
    add("--messages", type=int, default=10_000, help=f"of a round, {_SAMPLE} to {MOST_MESSAGES:,}")
    add("--size", type=int, default=15_000, help="bytes of a message, about")
    add("--rounds", type=int, default=3, help="each is mtad, Postfix in both of its ways, the scripts")
    add("--domains", type=int, choices=(1, 20), default=20, help="of the recipients, by Zipf; each a port of the sink")
    add("--workers", type=int, default=2, help="of mtad")
    add("--sessions", type=int, default=100, help="connections of mtad to one site, over all workers")
    add("--postfix-sessions", type=int, default=20, help="connections over which mail is handed in")
    add("--postfix-processes", type=int, default=100, help="default_process_limit")
    add("--postfix-concurrency", type=int, default=20, help="default_destination_concurrency_limit")
    add("--postfix-option", action="append", default=[], metavar="NAME=VALUE", help="a line more of its main.cf")
    add("--postfix-queue", type=Path, metavar="DIR", help="put Postfix' folder there, e.g. on a disk in memory")
    add("--skip-scripts", action="store_true", help="mtad and Postfix only")
    add("--script-messages", type=int, default=500, help="of the script with dkimpy; the other sends 4 times as many")
    add("--script-connections", type=int, default=10, help="of each process of a script")
    add("--processes", type=int, default=cores, help="of a script; default: as many as there are cores")
    found = parser.parse_args()
    if not _SAMPLE <= found.messages <= MOST_MESSAGES:
        parser.error(f"--messages: {_SAMPLE} to {MOST_MESSAGES:,}, is {found.messages}")
    for name, value in vars(found).items():
        if type(value) is int and name != "seed" and value < 1:
            parser.error(f"--{name.replace('_', '-')}: at least 1, is {value}")
    if bad := [option for option in found.postfix_option if not _OPTION.fullmatch(option)]:
        parser.error(f"--postfix-option: {bad[0]}: write NAME=VALUE")
    if found.postfix_queue and not found.postfix_queue.is_dir():
        parser.error(f"--postfix-queue: {found.postfix_queue}: there is no such folder")
    return Plan(**vars(found))


async def measure(plan: Plan) -> Report:
    """All rounds; Problem when one cannot be finished or a peer does not sign."""
    require_packages()
    smtp_sink_program()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="mtad-bench-peers-") as name:
        bench = Bench(plan, Path(name, "mails"), Path(name, "key.pem"))
        bench.key.write_bytes(new_key())
        say(f"composing {plan.messages:,} mails")
        captured = await capture(
            bench.mails, plan.messages, size=plan.size, domains=_domains(plan), seed=plan.seed, sample=_SAMPLE
        )
        verified = {"mtad": captured.verified, **await _verified(bench)}
        rounds = [await _round(bench, number) for number in range(1, plan.rounds + 1)]
    found = compared(plan.messages, rounds)
    return Report(
        mtad_rate=found.rates.mtad_rate,
        postfix_rate=found.rates.postfix_rate,
        ratio_to_postfix=found.ratio_to_postfix,
        script_dkimpy_rate=found.rates.script_dkimpy_rate,
        script_cryptography_rate=found.rates.script_cryptography_rate,
        compared=found,
        mails=captured,
        verified=verified,
        load_before=round(load_before, 2),
        command=sys.argv[1:],
        machine={
            "cores": len(os.sched_getaffinity(0)),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
    )


async def _round(bench: Bench, number: int) -> Round:
    """Everybody in turn; while one works, nothing of the others runs."""
    plan = bench.plan

    def turn(who: str) -> None:
        say(f"round {number} of {plan.rounds}: {who}")

    turn("mtad")
    ours = await _send(plan)
    turn("Postfix, handed in and delivered at once")
    at_once = await _relay(bench, holds=False)
    turn("Postfix, held until all is handed in")
    held = await _relay(bench, holds=True)
    scripts: dict[str, float] = {}
    for signer in () if plan.skip_scripts else SIGNERS:
        turn(f"script with {signer}")
        messages = min(plan.messages, plan.script_messages * (1 if signer == "dkimpy" else 4))
        async with receiving("smtp-sink", 1) as receiver:
            scripts[signer] = await _script(bench, signer, receiver, messages)
    return Round(ours, at_once, held, scripts)


async def _send(plan: Plan) -> Ours:
    """benchmarks.send as anyone runs it; Problem with its own last line when it fails or loses a mail."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.send", "--contacts", str(plan.messages), "--size", str(plan.size),
            "--workers", str(plan.workers), "--domains", str(plan.domains), "--sessions", str(plan.sessions),
            "--seed", str(plan.seed), "--sink", "smtp-sink", "--rsa-seconds", "1", "--json", report.name,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; we stop it in our own time
        )  # fmt: skip
        try:
            _, said = await process.communicate()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)  # it stops what it has started
                await process.wait()
        if process.returncode:
            last = (said.decode(errors="replace").strip().splitlines() or ["no word of why"])[-1]
            raise Problem(f"benchmarks.send: exit {process.returncode}: {last}")
        return msgspec.json.decode(report.read(), type=Ours)


async def _relay(bench: Bench, *, holds: bool) -> Relayed:
    plan = bench.plan
    async with receiving("smtp-sink", plan.domains) as receiver:
        return await relay(
            _load(bench, receiver, plan.messages), receiver, sessions=plan.postfix_sessions,
            tuning=_tuning(plan), holds=holds, parent=plan.postfix_queue,
        )  # fmt: skip


def _tuning(plan: Plan) -> Tuning:
    more = dict(option.split("=", 1) for option in plan.postfix_option)
    return Tuning(plan.postfix_processes, plan.postfix_concurrency, more)


def _load(bench: Bench, receiver: Receiver, messages: int) -> Load:
    """Each domain to a port of its own where there are so many, as benchmarks.send routes them."""
    addresses = receiver.addresses
    routes = {domain: addresses[number % len(addresses)] for number, domain in enumerate(_domains(bench.plan))}
    return Load(bench.mails, messages, bench.key, DOMAIN, SELECTOR, routes)


def _domains(plan: Plan) -> list[str]:
    return [f"d{number}.example.net" for number in range(plan.domains)]


async def _script(bench: Bench, signer: str, receiver: Receiver, messages: int) -> float:
    """Messages a second of a script, from the word to its last process' last message."""
    plan, (_, port) = bench.plan, receiver.addresses[0]
    command = [
        "benchmarks.scripts", signer, "--mails", str(bench.mails), "--most", str(messages), "--port", str(port),
        "--connections", str(plan.script_connections), "--key", str(bench.key), "--selector", SELECTOR,
        "--domain", DOMAIN,
    ]  # fmt: skip
    shares = [[*command, "--share", str(number), str(plan.processes)] for number in range(plan.processes)]
    async with prepared(shares) as children:
        done = [msgspec.json.decode(line, type=Scripted) for line in await children.work()]
    return round(messages / (max(one.ended for one in done) - min(one.began for one in done)), 1)


async def _verified(bench: Bench) -> dict[str, int]:
    """How many mails of each peer verify at the lab's sink; Problem when one does not, or has changed on its way."""
    verifier = Verifier({f"{SELECTOR}._domainkey.{DOMAIN}.": dns_record(read_key(bench.key))})
    found: dict[str, int] = {}
    for peer in ("postfix", *(() if bench.plan.skip_scripts else SIGNERS)):
        say(f"verifying what the peer {peer} signs")
        async with receiving("lab", 1) as receiver:
            assert receiver.lab is not None
            if peer == "postfix":
                load = _load(bench, receiver, _SAMPLE)
                await relay(
                    load, receiver, sessions=2, tuning=_tuning(bench.plan), holds=False, parent=bench.plan.postfix_queue
                )
                _require_same(bench, {copy.recipient: copy.message for copy in receiver.lab.messages})
            else:
                await _script(bench, peer, receiver, _SAMPLE)
            copies = [copy.message for copy in receiver.lab.messages]
        if len(copies) != _SAMPLE:
            raise Problem(f"{peer}: {len(copies)} of {_SAMPLE} messages came")
        found[peer] = await require_signed(peer, verifier, copies)
    return found


def _require_same(bench: Bench, copies: Mapping[str, bytes]) -> None:
    """Problem unless each body came as it was handed in."""
    for mail in read_mails(bench.mails)[:_SAMPLE]:
        came = copies.get(mail.recipient, b"")
        if came.partition(b"\r\n\r\n")[2] != mail.message.partition(b"\r\n\r\n")[2]:
            raise Problem(f"postfix: the message to {mail.recipient} did not come as it was handed in")


if __name__ == "__main__":
    main()
