"""A line of JSON for each outcome, on stdout, for those who keep such lines elsewhere: `log_outcomes`.

The fields are those of KumoMTA's log records, as far as we have them. Types of theirs:
Delivery, Bounce, TransientFailure, Expiration, Delayed (put off without an attempt); of
ours: Skip (the gate, or composing, said no for good) and InDoubt (given up as that). A
line is written after what it tells has been committed; one that cannot be written is lost,
the ledger is not.
"""

import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, BinaryIO

import msgspec

from mtad.base.clock import Clock
from mtad.queue.settle import Ending
from mtad.queue.store import Ended, Released, Returned, Trip

_TYPES = {
    "delivered": "Delivery",
    "bounced": "Bounce",
    "expired": "Expiration",
    "in_doubt": "InDoubt",
    "skipped": "Skip",
}
_PEER = re.compile(r"(\S+) \[([^\]]+)\]:\d+")
_NONE = Trip("", "")
_REPLY = re.compile(r"(\d{3})[ -](?:([245])\.(\d{1,3})\.(\d{1,3})[ -]?)?(.*)", re.DOTALL)


class OutcomeLog:
    """Writes one line an ending; called with what has been settled."""

    def __init__(
        self, clock: Clock, node: str, worker: int, *, addresses: bool, stream: BinaryIO | None = None
    ) -> None:
        """`node` is this host, `worker` the id of this worker; without `addresses` local parts are hidden."""
        self._clock = clock
        self._node = node
        self._worker = worker
        self._addresses = addresses
        self._write: Callable[[bytes], object] = (stream or sys.stdout.buffer).write
        self._flush = (stream or sys.stdout.buffer).flush

    def __call__(self, batch: Sequence[Ending]) -> None:
        at = self._clock.now()
        lines = [
            msgspec.json.encode(record(job, at, self._node, self._worker, addresses=self._addresses)) + b"\n"
            for job in batch
            if not isinstance(job, Released)
        ]
        if lines:
            self._write(b"".join(lines))
            self._flush()


def record(job: Ended | Returned, at: datetime, node: str, worker: int, *, addresses: bool) -> dict[str, Any]:
    """One line; `at` is when it was settled. Times as KumoMTA has them: seconds since 1970, and in words."""
    facts, trip = job.facts, job.trip or _NONE
    match job:
        case Ended():
            kind, said, happened = _TYPES[job.outcome], job.reply or job.reason, job.ended or at
            category = job.reason if job.outcome in ("bounced", "expired") else ""
            scope, doubts = job.scope, facts.doubts
        case Returned():
            kind = "TransientFailure" if job.attempts > facts.attempt else "Delayed"
            said, happened, category, scope, doubts = job.reason, at, job.category, job.scope, facts.doubts + job.doubt
    return {
        "type": kind,
        "id": str(facts.job_id),
        "sender": trip.sender,
        "recipient": facts.address if addresses else f"…@{facts.domain}",
        "queue": f"{facts.program_id}:{facts.stream_id}@{facts.domain}",
        "site": trip.site or None,
        "size": trip.size,
        "response": _response(said),
        "timestamp": int(happened.timestamp()),
        "event_time": happened.isoformat(),
        "created": int(facts.created.timestamp()),
        "created_time": facts.created.isoformat(),
        "num_attempts": job.attempts,
        "bounce_classification": category or "Uncategorized",
        "peer_address": _peer(trip.host),
        "egress_pool": trip.pool or None,
        "egress_source": trip.source or None,
        "source_address": {"address": trip.local} if trip.local else None,
        "session_id": f"{worker}-{trip.session}" if trip.session else None,
        "tls_protocol_version": trip.tls or None,
        "tls_cipher": trip.cipher or None,
        "tls_peer_subject_name": trip.subject or None,
        "delivery_protocol": "ESMTP",
        "nodeid": node,
        "meta": {
            "program": facts.program_id, "message": facts.message_id, "step": facts.node,
            "contact": facts.contact_id, "site": facts.site_id, "scope": scope, "doubts": doubts,
        },
    }  # fmt: skip


def _peer(host: str) -> dict[str, str] | None:
    """Name and address of "name [address]:port"; None where nobody was dialled."""
    match = _PEER.fullmatch(host)
    return {"name": match[1], "addr": match[2]} if match else None


def _response(text: str) -> dict[str, Any]:
    """A reply taken apart; words that are no server's have the code 0."""
    match = _REPLY.fullmatch(text)
    if match is None:
        return {"code": 0, "enhanced_code": None, "content": text}
    code, *enhanced, content = match.groups()
    class_, subject, detail = (int(part) if part else 0 for part in enhanced)
    return {
        "code": int(code),
        "enhanced_code": {"class": class_, "subject": subject, "detail": detail} if class_ else None,
        "content": content,
    }
