"""The earliest time at which a mail may go, against a clock that is asked minute by minute."""

import bisect
import random
import zoneinfo
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from engine.slots import EVERY_DAY, LONGEST_WAIT, Cap, Quiet, Slot, Slots, earliest
from engine.zones import COUNTRIES, SERVER, Zone, zone_of

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
NOW = datetime(2026, 6, 3, 12, tzinfo=UTC)  # a Wednesday
FAR = NOW + timedelta(days=365)

# Clocks that change at night, at midnight, by half an hour, on the other half of the globe, and never.
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Asia/Beirut",
    "Asia/Kolkata",
    None,
)
# Around both changes of each zone in 2026, and a time without any.
AROUND = {
    "Europe/Berlin": (date(2026, 3, 29), date(2026, 10, 25), date(2026, 6, 10)),
    "America/New_York": (date(2026, 3, 8), date(2026, 11, 1), date(2026, 6, 10)),
    "Australia/Lord_Howe": (date(2026, 10, 4), date(2026, 4, 5), date(2026, 6, 10)),
    "America/Santiago": (date(2026, 9, 6), date(2026, 4, 5), date(2026, 6, 10)),
    "Asia/Beirut": (date(2026, 3, 29), date(2026, 10, 25), date(2026, 6, 10)),
    "Asia/Kolkata": (date(2026, 6, 10),),
    None: (date(2026, 6, 10),),
}


class Clock:
    """Every minute of some weeks, with what a clock on a wall there shows."""

    def __init__(self, zone: str | None, middle: date) -> None:
        place = ZoneInfo(zone or "UTC")
        self.begin = datetime.combine(middle, time(), UTC) - 6 * DAY
        moments = (self.begin + n * MINUTE for n in range(25 * 1440))
        self.wall = [moment.astimezone(place).replace(tzinfo=None) for moment in moments]
        self.weekday = [wall.weekday() for wall in self.wall]
        self.shown: defaultdict[datetime, list[int]] = defaultdict(list)
        for minute, wall in enumerate(self.wall):
            self.shown[wall].append(minute)
        self.ordered = sorted(self.shown)

    def minute(self, wall: datetime, which: int) -> int:
        """The first (0) or last (-1) minute that shows this; if none does, the first that shows more."""
        if wall not in self.shown:
            return self.shown[self.ordered[bisect.bisect_left(self.ordered, wall)]][0]
        return self.shown[wall][which]

    def quiet(self, rule: Quiet) -> set[int]:
        minutes: set[int] = set()
        days = sorted({wall.date() for wall in self.wall})
        for day in days[1:-2]:
            end = day if rule.start < rule.end else day + DAY
            start = self.minute(datetime.combine(day, rule.start), 0)
            minutes.update(range(start, self.minute(datetime.combine(end, rule.end), -1)))
        return minutes


CLOCKS = {(zone, day): Clock(zone, day) for zone, days in AROUND.items() for day in days}


def brute_force(now: datetime, rules: Slots, clock: Clock, sent: list[datetime], sent_all: list[datetime]) -> object:
    quiet = clock.quiet(rules.quiet) if rules.quiet else set()
    caps = [
        (cap.most, int(cap.window) // 60, [(when - clock.begin) // MINUTE for when in times])
        for caps, times in ((rules.caps, sent), (rules.caps_all, sent_all))
        for cap in caps
    ]
    first = (now - clock.begin) // MINUTE
    for minute in range(first, first + LONGEST_WAIT // MINUTE + 1):
        if minute in quiet or clock.weekday[minute] not in rules.days:
            continue
        if all(
            len([when for when in times if minute - window < when <= minute]) < most for most, window, times in caps
        ):
            return clock.begin + minute * MINUTE
    return None


def cases(seed: int, count: int) -> Iterator[tuple[str | None, datetime, Slots, Clock, list[datetime], list[datetime]]]:
    luck = random.Random(seed)
    for n in range(count):
        zone = ZONES[n % len(ZONES)]
        day = luck.choice(AROUND[zone])
        clock = CLOCKS[zone, day]
        now = clock.begin + luck.randrange(2 * 1440, 8 * 1440) * MINUTE
        start, end = luck.sample(range(0, 1440, luck.choice((1, 15, 60))), 2)
        at_night = luck.random() < 0.5
        if at_night:
            start, end = luck.choice((21, 22, 23)) * 60, luck.randrange(0, 300, 15)
        days = EVERY_DAY if luck.random() < 0.4 else frozenset(luck.sample(range(7), luck.randint(1, 6)))
        rules = Slots(
            caps=tuple(cap(luck, "stream") for _ in range(luck.choice((0, 1, 1, 2)))),
            caps_all=tuple(cap(luck, "all") for _ in range(luck.choice((0, 0, 1)))),
            quiet=None if luck.random() < 0.2 else Quiet(time(start // 60, start % 60), time(end // 60, end % 60)),
            days=days,
        )
        others = sorted(now - luck.randrange(0, 9 * 1440) * MINUTE for _ in range(luck.randint(0, 8)))
        sent = [when for when in others if luck.random() < 0.6]
        yield zone, now, rules, clock, sent, others


def cap(luck: random.Random, name: str) -> Cap:
    return Cap(luck.randint(1, 4), luck.choice((3600.0, 86400.0, 3 * 86400.0, 7 * 86400.0, 10 * 86400.0)), name)


@pytest.mark.parametrize("part", range(4))
def test_slots_are_those_of_a_clock_asked_minute_by_minute(part: int) -> None:
    """Two thousand rules in all."""
    for zone, now, rules, clock, sent, sent_all in cases(part, 500):
        clock_there = zone_of(zone, None, "").clock
        found = earliest(now, rules, clock_there, sent=sent, sent_all=sent_all, latest=now + timedelta(days=90))

        assert (found and found.at) == brute_force(now, rules, clock, sent, sent_all), (zone, now, rules)


def test_the_rules_of_the_comparison_matter() -> None:
    """Most of the cases wait, some for ever, and each rule decides some of them."""
    whys = [
        slot.why if slot else "never"
        for zone, now, rules, _, sent, sent_all in cases(0, 500)
        for slot in [earliest(now, rules, ZoneInfo(zone or "UTC"), sent=sent, sent_all=sent_all, latest=FAR)]
    ]

    assert min(whys.count(why) for why in ("", "cap:stream", "cap:all", "quiet_hours", "sending_day")) > 10


BERLIN = ZoneInfo("Europe/Berlin")


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


@pytest.mark.parametrize(
    ("quiet", "now", "at"),
    [
        # 02:00 to 03:00 does not exist on 29 March.
        (("22:00", "02:30"), "2026-03-28T23:00", "2026-03-29T03:00"),
        (("02:30", "06:00"), "2026-03-29T03:00", "2026-03-29T06:00"),
        # 02:00 to 03:00 exists twice on 25 October: 00:00Z and 01:00Z.
        (("22:00", "02:30"), "2026-10-24T23:00", "2026-10-25T01:30+00:00"),
        (("02:30", "06:00"), "2026-10-25T02:30", "2026-10-25T06:00"),
        (("08:00", "20:00"), "2026-06-01T08:00", "2026-06-01T20:00"),
        (("08:00", "20:00"), "2026-06-01T20:00", "2026-06-01T20:00"),
        (("20:00", "08:00"), "2026-06-01T07:59", "2026-06-01T08:00"),
    ],
)
def test_quiet_hours_at_their_edges(quiet: tuple[str, str], now: str, at: str) -> None:
    rules = Slots(quiet=Quiet(time.fromisoformat(quiet[0]), time.fromisoformat(quiet[1])))
    expected = datetime.fromisoformat(at) if "+" in at else berlin(at)

    slot = earliest(berlin(now), rules, BERLIN, sent=[], sent_all=[], latest=FAR)

    assert slot is not None
    assert slot.at == expected


def test_cap_is_free_again_at_the_very_moment() -> None:
    rules = Slots(caps=(Cap(2, 7 * 86400.0, "stream"),))
    sent = [NOW - timedelta(days=6, microseconds=1), NOW - timedelta(days=1)]

    assert earliest(NOW, rules, BERLIN, sent=sent, sent_all=[], latest=FAR) == Slot(sent[0] + 7 * DAY, "cap:stream")
    assert earliest(sent[0] + 7 * DAY, rules, BERLIN, sent=sent, sent_all=[], latest=FAR) == Slot(sent[0] + 7 * DAY, "")


def test_slot_behind_the_end_of_the_mail_is_none() -> None:
    rules = Slots(days=frozenset({4}))
    friday = datetime(2026, 6, 5, tzinfo=UTC)
    utc = ZoneInfo("UTC")

    assert earliest(NOW, rules, utc, sent=[], sent_all=[], latest=friday) == Slot(friday, "sending_day")
    assert earliest(NOW, rules, utc, sent=[], sent_all=[], latest=friday - MINUTE) is None


def test_cap_that_lets_nothing_wait_ends_the_search() -> None:
    week, day = Cap(2, 7 * 86400.0, "week"), Cap(1, 86400.0, "day", skip=True)
    rules = Slots(caps=(week,), caps_all=(day,))
    sent = [NOW - DAY / 2]

    used_up, free = (earliest(at, rules, BERLIN, sent=sent, sent_all=sent, latest=at) for at in (NOW, NOW + DAY))

    assert used_up == Slot(NOW + DAY / 2, "cap:day", skip=True)
    assert free == Slot(NOW + DAY, "")


@pytest.mark.parametrize("name", [None, "", "Europe", "Europe/Bonn", "../../etc/passwd", "/etc/passwd", "a\0b"])
def test_zone_that_is_none_is_that_of_the_country_the_stream_or_the_server(name: str | None) -> None:
    assert zone_of(name, "at", "Europe/Berlin") == Zone(ZoneInfo("Europe/Vienna"), "country")
    for several in ("US", "", None, 7, ["AT"]):
        assert zone_of(name, several, "Europe/Berlin") == Zone(BERLIN, "stream")
    assert zone_of(name, None, "") is SERVER
    assert zone_of("Asia/Tokyo", "AT", "Europe/Berlin") == Zone(ZoneInfo("Asia/Tokyo"), "contact")


def test_countries_with_one_time_are_those_of_the_zones_of_this_machine() -> None:
    """zone.tab: country, place, zone; a country is in the table if all its zones agree, summer and winter."""
    places = [folder / "zone.tab" for folder in map(Path, zoneinfo.TZPATH)]
    table = next((place for place in places if place.exists()), None)
    if table is None:
        pytest.skip("no zone.tab here")
    zones: defaultdict[str, list[str]] = defaultdict(list)
    for line in table.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            country, _, name = line.split("\t")[:3]
            zones[country].append(name)
    days = [datetime(2026, 1, 1, tzinfo=UTC) + 7 * n * DAY for n in range(52)]

    for country, names in zones.items():
        shown = {tuple(day.astimezone(ZoneInfo(name)).utcoffset() for day in days) for name in names}
        assert (country in COUNTRIES) == (len(shown) == 1), country
        assert country not in COUNTRIES or COUNTRIES[country] in names
