"""What waits for a lane: class by class, each in its order."""

from hypothesis import given
from hypothesis import strategies as st

from engine.facts import Facts
from mtad.pipeline.backlog import CLASSES, TRANSACTIONAL, Backlog
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

    taken = [mail.facts.job_id for mail in iter(backlog.take, None)]

    assert taken == sorted(range(len(classes)), key=lambda number: (classes[number], number))
    assert not backlog


@given(st.lists(st.integers(0, CLASSES - 1), max_size=30))
def test_who_wants_transactional_mail_alone_gets_all_of_it_and_leaves_the_rest(classes: list[int]) -> None:
    backlog = Backlog()
    backlog.add([mail(number, class_) for number, class_ in enumerate(classes)])

    taken = [mail.facts.class_ for mail in iter(lambda: backlog.take(urgent=True), None)]

    assert taken == [TRANSACTIONAL] * classes.count(TRANSACTIONAL)
    assert len(backlog) == len(classes) - len(taken)
