"""What the knobs of a lane mean for its sessions."""

from typing import get_args

import msgspec

from mtad.base.config import Shape
from mtad.base.shape import ByPolicy, EnableTls
from mtad.smtp.results import Stage
from mtad.wire.terms import Terms, Tls, terms_of


def test_the_defaults_are_those_of_the_protocol() -> None:
    terms = terms_of(Shape())

    assert terms.patience() == Terms().patience()
    assert (terms.tls, terms.remember_broken_tls) == (Terms().tls, Terms().remember_broken_tls)


def test_every_timeout_has_its_stage() -> None:
    for field in msgspec.structs.fields(Shape):
        if field.name.endswith("_timeout") and field.name != "idle_timeout":
            changed = terms_of(msgspec.structs.replace(Shape(), **{field.name: "7s"})).patience()
            stages = {stage for stage in Stage if changed[stage] != Terms().patience()[stage]}
            assert {changed[stage] for stage in stages} == {7.0}
            assert len(stages) == (2 if field.name == "starttls_timeout" else 1)


def test_every_word_of_the_configuration_is_one_of_tls() -> None:
    words = get_args(EnableTls) + get_args(ByPolicy)

    assert {terms_of(msgspec.structs.replace(Shape(), enable_tls=word)).tls for word in words} == set(Tls)
