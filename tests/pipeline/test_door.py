"""When a lane closes, for how long, and when that is forgotten."""

from datetime import UTC, datetime

from mtad.outcome.kinds import Bounced, Deferred, Delivered, Outcome, Scope
from mtad.pipeline.door import (
    BLAMED_FIRST,
    BLAMED_IN_A_ROW,
    BLAMED_LONGEST,
    CLOSED_FIRST,
    CLOSED_LONGEST,
    SHUT_FOR,
    Door,
)

NOW = datetime(2026, 5, 4, tzinfo=UTC)
DELIVERED = Delivered("250 ok", NOW, NOW)
BLOCKED = Bounced(Scope.SOURCE, "SpamBlock", "550 blocked")


def test_connections_that_fail_in_a_row_close_it_for_ever_longer() -> None:
    door = Door(2)

    spans = [door.cannot_connect(100.0) for _ in range(20)]

    assert spans[:4] == [0.0, CLOSED_FIRST, 2 * CLOSED_FIRST, 4 * CLOSED_FIRST]
    assert spans[-1] == CLOSED_LONGEST
    assert not door.is_open(100.0)
    assert door.is_open(100.0 + SHUT_FOR)


def test_mail_that_is_taken_makes_failures_forgotten() -> None:
    door = Door(2)
    door.cannot_connect(0.0)

    door.connected()

    assert door.cannot_connect(0.0) == 0.0
    assert not door.is_spotless(0.0)
    door.connected()
    assert door.is_spotless(0.0)


def test_refusals_of_us_in_a_row_close_it_for_ever_longer_until_a_mail_is_delivered() -> None:
    door = Door(1)

    spans = [span for _ in range(10 * BLAMED_IN_A_ROW) if (span := door.heard(BLOCKED))]

    assert spans[:3] == [BLAMED_FIRST, 2 * BLAMED_FIRST, 4 * BLAMED_FIRST]
    assert spans[-1] == BLAMED_LONGEST
    assert len(spans) == 10
    assert not door.is_spotless(0.0)
    door.heard(DELIVERED)
    assert door.is_spotless(0.0)


def test_a_refusal_of_the_recipient_and_a_deferral_close_nothing() -> None:
    door = Door(1)
    outcomes: list[Outcome] = [
        Bounced(Scope.RECIPIENT, "InvalidRecipient", "550 unknown"),
        Deferred(Scope.SOURCE, "Other", "451 later"),
    ]

    assert not any(door.heard(outcome) for outcome in outcomes * 9)


def test_it_is_looked_at_again_before_it_is_known_to_open() -> None:
    door = Door(1)

    door.shut(10.0, 300.0, "no token")

    assert not door.is_open(10.0)
    assert door.is_open(10.0 + SHUT_FOR)
    assert (door.opens_in(10.0), door.why) == (300.0, "no token")
