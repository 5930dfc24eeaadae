"""Types of cells and of columns."""

import random
import string
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.audience.values import Type, joint_type, moment, reader_of, type_of

NAIVE = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1))  # noqa: DTZ001 - hypothesis adds no zone here
CELLS = {
    Type.NUMBER: st.one_of(
        st.integers(-(10**15) + 1, 10**15 - 1).map(str),
        st.decimals("-99999999", "99999999", places=2).map(lambda n: f"{n:.2f}"),
    ),
    Type.BOOL: st.sampled_from(["true", "false", "TRUE", "False"]),
    Type.DATE: st.one_of(
        st.dates().map(date.isoformat),
        NAIVE.map(datetime.isoformat),
    ),
    Type.TEXT: st.text(string.ascii_letters, min_size=6),
}
ANY = st.one_of(*CELLS.values(), st.just(""))


@pytest.mark.parametrize("kind", list(Type))
@given(data=st.data())
def test_column_of_one_kind_has_that_type(kind: Type, data: st.DataObject) -> None:
    cells = data.draw(st.lists(CELLS[kind], min_size=1))

    assert joint_type(None, [*cells, ""]) is kind


@given(st.lists(ANY), st.integers(0, 20), st.randoms(use_true_random=False))
def test_type_does_not_depend_on_order_or_on_pieces(cells: list[str], cut: int, dice: random.Random) -> None:
    shuffled = dice.sample(cells, len(cells))

    assert joint_type(joint_type(None, shuffled[:cut]), shuffled[cut:]) is joint_type(None, cells)


@given(st.lists(ANY))
def test_every_cell_fits_the_type_of_its_column(cells: list[str]) -> None:
    kind = joint_type(None, cells)

    for cell in filter(None, cells):
        assert kind is not None
        reader_of(kind)(cell)


@given(CELLS[Type.NUMBER])
def test_numbers_keep_their_value(cell: str) -> None:
    assert Decimal(str(reader_of(Type.NUMBER)(cell))) == Decimal(cell)


@pytest.mark.parametrize(
    "cell",
    ["01099", "+49170123456", "1,5", "1e3", "NaN", "inf", "1_000", "٣", "yes", "NO", "1" * 16, "1999-02-31", "5."],
)
def test_what_could_be_an_identifier_stays_text(cell: str) -> None:
    assert type_of(cell) is Type.TEXT


def test_value_of_another_type_is_refused_with_an_example() -> None:
    with pytest.raises(ValueError, match=r"^'ten' is not a number; write 1200 or 9.95$"):
        reader_of(Type.NUMBER)("ten")
    with pytest.raises(ValueError, match=r"^'1.2.1999' is not a date; write 1999-02-28"):
        reader_of(Type.DATE)("1.2.1999")
    with pytest.raises(ValueError, match=r"^'1' is not a bool; write true or false$"):
        reader_of(Type.BOOL)("1")


@given(NAIVE, st.integers(-14 * 60, 14 * 60))
def test_moments_are_in_utc(at: datetime, offset: int) -> None:
    aware = at.replace(tzinfo=timezone(timedelta(minutes=offset)))

    assert moment(aware.isoformat()) == aware
    assert moment(at.isoformat()) == at.replace(tzinfo=UTC)
    assert moment(aware.isoformat()).tzinfo is UTC


def test_dates_are_stored_as_given_and_moments_in_utc() -> None:
    assert reader_of(Type.DATE)("2026-01-31") == "2026-01-31"
    assert reader_of(Type.DATE)("2026-01-31 01:00+02:00") == "2026-01-30T23:00:00Z"


@pytest.mark.parametrize(
    ("kind", "cell"), [(Type.DATE, "1999-02-28T12:00:00.000000+00:00"), (Type.NUMBER, "-0." + "0" * 14)]
)
def test_longest_cells_of_a_type_have_it(kind: Type, cell: str) -> None:
    assert type_of(cell) is kind
    assert type_of(cell + "0" * 40) is Type.TEXT
