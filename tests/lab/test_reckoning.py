"""The demo's verdict: nothing that does not agree goes unnamed."""

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from mtad.lab.accounts import Ended
from mtad.lab.reckoning import Everybody, Facts, reckon, table
from mtad.lab.verify import Verdict

PENDING = {"waiting": 0, "deferred": 0, "begun": 0, "in_doubt": 0}
SERIES: dict[str, Any] = {
    "program": "first-steps", "adds_up": True, "enrolled": 5, "delivered": 1, "bounced": 1, "expired": 0,
    "in_doubt": 0, "skipped": {"left:engaged": 2, "unsubscribed": 1}, "pending": PENDING,
    "entered": 4, "running": 0, "ended": {"engaged": 1, "unsubscribed": 1, "silent": 1, "bounced": 1},
}  # fmt: skip
NEWSLETTER: dict[str, Any] = {
    **SERIES, "program": "newsletter", "enrolled": 2, "bounced": 0, "skipped": {"inactive:cooling": 1},
    "entered": 0, "ended": {},
}  # fmt: skip
WINBACK: dict[str, Any] = {
    **SERIES, "program": "winback", "enrolled": 0, "delivered": 0, "bounced": 0, "skipped": {},
    "entered": 2, "ended": {"came_back": 1, "silent": 1},
}  # fmt: skip
GOOD = Facts(
    audits=[SERIES, NEWSLETTER, WINBACK], jobs=[1, 2, 2], ledger=[Ended(1, "delivered", 0), Ended(2, "delivered", 1)],
    verdicts=[Verdict(signed=True, one_click=True, why="")] * 3, states={"active": 1, "resting": 1},
    hits={"scanner": (9, 0)}, scanner_points=0, newsletter={"engaged": 1}, read=3,
    everybody=Everybody(mails=8, read=4), sessions=1, refused=0, failed_requests=[], workers=3, exit_code=0,
    deadlocks=0, fdatasync_ms=1.0, seconds=60.0,
)  # fmt: skip


def test_a_run_in_which_all_agree_has_no_disagreement() -> None:
    result = reckon(GOOD)

    assert result.disagreements == []
    assert (result.copies, result.delivered, result.duplicates) == (3, 2, 1)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"audits": [{**SERIES, "adds_up": False}, NEWSLETTER, WINBACK]}, "does not add up"),
        ({"audits": [{**SERIES, "pending": {**PENDING, "begun": 1}}, NEWSLETTER, WINBACK]}, "1 still pending"),
        ({"audits": [{**SERIES, "delivered": 2}, NEWSLETTER, WINBACK]}, "audit says 3 delivered"),
        ({"audits": [{**SERIES, "ended": {}}, NEWSLETTER, WINBACK]}, "nobody left the series as Engaged"),
        ({"audits": [{**SERIES, "bounced": 0}, NEWSLETTER, WINBACK]}, "nothing bounced"),
        ({"audits": [{**SERIES, "skipped": {}}, NEWSLETTER, WINBACK]}, "no queued mail of somebody who left"),
        ({"audits": [SERIES, {**NEWSLETTER, "skipped": {}}, WINBACK]}, "nobody was left out as Inactive"),
        ({"audits": [SERIES, NEWSLETTER, {**WINBACK, "ended": {"silent": 2}}]}, "nobody came back"),
        ({"audits": [SERIES, NEWSLETTER, {**WINBACK, "ended": {"came_back": 2}}]}, "silent through the reactivation"),
        ({"states": {"active": 1}}, "nobody rests"),
        ({"jobs": [1, 2, None]}, "not ours"),
        ({"jobs": [1, 2, 3]}, "knows no delivery"),
        ({"jobs": [1]}, "no copy arrived"),
        ({"ledger": [Ended(1, "delivered", 0), Ended(2, "delivered", 0)]}, "marks of doubt"),
        ({"verdicts": [Verdict(signed=False, one_click=True, why="")] * 3}, "signatures do not verify"),
        ({"verdicts": [Verdict(signed=True, one_click=False, why="")] * 3}, "one-click"),
        ({"hits": {"scanner": (9, 5)}}, "machines earned 5 points"),
        ({"hits": {}}, "no scanner was seen"),
        ({"scanner_points": 5}, "behind scanners"),
        ({"newsletter": {"engaged": 1, "cooling": 1}}, "an Inactive contact got"),
        ({"newsletter": {}}, "no Engaged contact got"),
        ({"failed_requests": ["open: GET was answered 500"]}, "1 requests failed"),
        ({"workers": 4}, "4 workers lived"),
        ({"exit_code": 1}, "exit 1"),
        ({"deadlocks": 1}, "1 deadlocks"),
    ],
)
def test_whatever_is_wrong_is_named(changed: dict[str, Any], named: str) -> None:
    told = reckon(msgspec.structs.replace(GOOD, **changed)).disagreements

    assert any(named in text for text in told), told


def test_the_table_shows_sums_that_add_up() -> None:
    out = io.StringIO()
    Console(file=out, width=160).print(table(GOOD, reckon(GOOD)))

    assert "5 = 1 delivered + 1 bounced" in out.getvalue()
    assert "audit, sink and ledger agree" in out.getvalue()
    assert "2 mails of series and newsletter, not 8 (75% saved); read 3 times, not 4 (75% kept)" in out.getvalue()
