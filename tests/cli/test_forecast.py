"""`mtad program forecast` as an operator reads it."""

from rich.console import Console

from mtad.cli.control import forecast_view
from mtad.ops.answers.audience import Returns
from mtad.queue.enqueue import Forecast


def shown(result: Forecast, returns: Returns) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(forecast_view(result, returns))
    assert max(map(len, captured.get().splitlines())) <= 80
    return " ".join(captured.get().split())


def test_a_forecast_says_by_reason_who_gets_nothing_and_who_may_come_back() -> None:
    result = Forecast("news", 112, 90, 2, {"unsubscribed": 20}, 38_000, {"quiet_hours": 2},
                      "it takes people on the day of their birthday")  # fmt: skip

    text = shown(result, Returns([311, *[0] * 29], 1204, ["winback"]))

    assert "It takes people on the day of their birthday." in text
    assert "38,000 without tracking consent: elasticity will not act on them." in text
    assert "1,204 have cooled down and wait to be asked. The cool-down of 311 ends in the next 30 days." in text
    assert "winback takes them in." in text
    assert "defer quiet_hours 2" in text
    assert "skip unsubscribed 20 This person unsubscribed" in text


def test_where_nobody_can_come_back_nothing_is_said_of_programs() -> None:
    text = shown(Forecast("news", 1, 1, 0, {}, 0, {}), Returns([0] * 30, 0, []))

    assert "Nobody's cool-down ends in the next 30 days." in text
    assert "reactivation" not in text
    assert "consent" not in text
