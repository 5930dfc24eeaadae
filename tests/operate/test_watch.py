"""What a worker tells of itself: counts, refusals that blame us, a line for each outcome."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from engine.facts import Facts
from mtad.ops import watch
from mtad.ops.lag import LagMeter
from mtad.ops.outcome_log import OutcomeLog
from mtad.ops.watch import Blame, Counts, LaneCounts, LaneFigures, Watch
from mtad.queue.settle import Ending
from mtad.queue.store import Ended, Released, Returned, Trip
from tests.clock import ManualClock
from tests.pipeline.test_endings import FACTS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRIP = Trip("warm", "mx.x.test [192.0.2.7]:25", "b+1@example.com", 15_000, "TLSv1.3", "TLS_AES_256_GCM_SHA384",
            ("O=X", "CN=mx.x.test"), "mx.x.test", "fast", "198.51.100.4", 12)  # fmt: skip


def facts(**changes: Any) -> Facts:
    return msgspec.structs.replace(FACTS, **changes)


ENDINGS: list[tuple[Ending, str]] = [
    (Ended(facts(), "delivered", reply="250 2.0.0 ok", attempts=1, ended=NOW), "Delivery"),
    (Ended(facts(), "bounced", "SpamBlock", scope="source", reply="550 5.7.1 [BL21] listed", attempts=1), "Bounce"),
    (Ended(facts(), "bounced", "InvalidRecipient", scope="recipient", reply="550 nobody", attempts=1), "Bounce"),
    (Ended(facts(), "expired", "Greylisted", scope="policy", reply="451 later", attempts=9), "Expiration"),
    (Ended(facts(), "in_doubt", reply="timed out", attempts=2), "InDoubt"),
    (Ended(facts(), "skipped", "unsubscribed"), "Skip"),
    (Returned(facts(), 60, "421 4.7.0 [TSS04] later", 1), "TransientFailure"),
    (Returned(facts(), 60, "in doubt: timed out", 1, doubt=True), "TransientFailure"),
    (Returned(facts(), 60, "paused", 0), "Delayed"),
]


def watching() -> Watch:
    clock = ManualClock(NOW)
    return Watch(clock, LagMeter(clock))


def test_endings_are_counted_by_lane_and_in_all() -> None:
    seen = watching()
    seen.settled([*(ending for ending, _ in ENDINGS), Released(facts())])
    seen.settled([Ended(facts(site_id=77), "delivered", trip=TRIP)])
    seen.lanes = lambda: [LaneFigures(77, "mx.x.test", "warm", 2, 5)]

    found = seen.figures(0, 3, 99)

    assert found.total == Counts(delivered=2, deferred=1, bounced=2, in_doubt=2)
    assert found.counted[-1] == LaneCounts(77, "warm", Counts(delivered=1))
    assert (found.sessions, found.waiting) == (2, 5)


def test_only_refusals_that_blame_us_are_kept_and_only_the_last() -> None:
    seen = watching()
    for _ in range(watch.BLAMED + 5):
        seen.settled([ending for ending, _ in ENDINGS])

    blamed = seen.figures(0, 3, 99).blamed

    assert blamed == [Blame(NOW, FACTS.site_id, "SpamBlock", "source", "550 5.7.1 [BL21] listed", "")] * watch.BLAMED


def test_a_refusal_of_our_address_is_kept_though_the_mail_is_tried_again() -> None:
    seen = watching()
    seen.settled([Returned(facts(), 60, "550 5.7.1 [BL21] listed", 1, trip=TRIP, category="SpamBlock", scope="source")])
    seen.settled([Returned(facts(), 60, "451 4.7.1 listed", 1, trip=TRIP, category="SpamBlock", scope="source")])

    blamed = seen.figures(0, 3, 99).blamed

    assert blamed == [Blame(NOW, FACTS.site_id, "SpamBlock", "source", "550 5.7.1 [BL21] listed", "warm")]


def test_memory_does_not_grow_with_the_number_of_lanes() -> None:
    seen = watching()
    seen.settled([Ended(facts(site_id=n), "delivered") for n in range(3 * watch.MOST_LANES)])

    found = seen.figures(0, 3, 99)

    assert len(seen._by_lane) <= watch.MOST_LANES
    assert len(found.counted) <= watch.LISTED
    assert found.total.delivered == 3 * watch.MOST_LANES


@pytest.mark.parametrize(("ending", "kind"), ENDINGS)
def test_each_outcome_is_one_line_of_json_in_the_fields_of_others(ending: Ending, kind: str) -> None:
    stream = io.BytesIO()
    OutcomeLog(ManualClock(NOW), "host", 7, addresses=True, stream=stream)([ending, Released(facts())])
    [line] = stream.getvalue().splitlines()
    found = json.loads(line)

    assert found["type"] == kind
    assert found["id"] == str(FACTS.job_id)
    assert found["recipient"] == FACTS.address
    assert found["timestamp"] == int(NOW.timestamp())
    assert set(found["response"]) == {"code", "enhanced_code", "content"}


def test_a_line_says_how_the_mail_went_out_and_nothing_of_what_was_not_tried() -> None:
    stream = io.BytesIO()
    OutcomeLog(ManualClock(NOW), "host", 7, addresses=True, stream=stream)(
        [
            Ended(facts(), "delivered", reply="250 ok", attempts=1, trip=TRIP),
            Returned(facts(), 60, "no connection", 1, trip=Trip("warm", "")),
            Returned(facts(), 60, "paused", 0),
        ]
    )
    names = (
        "sender", "size", "peer_address", "egress_source", "tls_protocol_version", "tls_cipher", "site", "egress_pool",
        "source_address", "session_id", "tls_peer_subject_name",
    )  # fmt: skip

    sent, lost, put_off = ([json.loads(line)[name] for name in names] for line in stream.getvalue().splitlines())

    assert sent == [
        "b+1@example.com", 15_000, {"name": "mx.x.test", "addr": "192.0.2.7"}, "warm", "TLSv1.3",
        "TLS_AES_256_GCM_SHA384", "mx.x.test", "fast", {"address": "198.51.100.4"}, "7-12", ["O=X", "CN=mx.x.test"],
    ]  # fmt: skip
    assert lost == ["", 0, None, "warm", *[None] * 7]
    assert put_off == ["", 0, *[None] * 9]


def test_replies_are_taken_apart() -> None:
    stream = io.BytesIO()
    OutcomeLog(ManualClock(NOW), "host", 7, addresses=True, stream=stream)([ending for ending, _ in ENDINGS])
    said = [json.loads(line)["response"] for line in stream.getvalue().splitlines()]

    assert said[1] == {
        "code": 550,
        "enhanced_code": {"class": 5, "subject": 7, "detail": 1},
        "content": "[BL21] listed",
    }
    assert said[2] == {"code": 550, "enhanced_code": None, "content": "nobody"}
    assert said[4] == {"code": 0, "enhanced_code": None, "content": "timed out"}


def test_recipients_are_hidden_unless_they_are_asked_for() -> None:
    stream = io.BytesIO()
    OutcomeLog(ManualClock(NOW), "host", 7, addresses=False, stream=stream)([ending for ending, _ in ENDINGS])

    assert FACTS.address not in stream.getvalue().decode()
    assert f"…@{FACTS.domain}" in stream.getvalue().decode()
