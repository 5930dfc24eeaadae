"""What waits for a lane: class by class, each in its order."""

from hypothesis import given
from hypothesis import strategies as st

from engine.facts import Facts
from mtad.pipeline.backlog import CLASSES, Backlog
from mtad.pipeline.endings import Mail

CLASS = list(Facts.__struct_fields__).index("class_")


def mail(number: int, class_: int) -> Mail:
    columns: list[object] = [number, *[None] * (len(Facts.__struct_fields__) - 1)]
    columns[CLASS] = class_
    return Mail(Facts(*columns), None, None)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, CLASSES - 1), max_size=30))
def test_all_come_out_the_urgent_class_first_and_each_class_in_its_order(classes: list[int]) -> None:
    backlog = Backlog()
    backlog.add([mail(number, class_) for number, class_ in enumerate(classes)])

    taken = [backlog.take().facts.job_id for _ in range(len(backlog))]

    assert taken == sorted(range(len(classes)), key=lambda number: (classes[number], number))
    assert not backlog
