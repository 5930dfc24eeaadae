"""A histogram that every mail is noted in."""

import pytest
from prometheus_client import REGISTRY

from mtad.base.spans import Spans


def test_each_time_counts_in_every_bucket_that_it_is_not_above() -> None:
    spans = Spans("mtad_test_spans", "Times", buckets=(0.001, 0.5, 2))
    try:
        for seconds in (0.0005, 0.001, 0.2, 3.0):
            spans.observe(seconds)
        counts = [
            REGISTRY.get_sample_value("mtad_test_spans_bucket", {"le": bound})
            for bound in ("0.001", "0.5", "2.0", "+Inf")
        ]

        assert counts == [2, 3, 3, 4]
        assert REGISTRY.get_sample_value("mtad_test_spans_count") == 4
        assert REGISTRY.get_sample_value("mtad_test_spans_sum") == pytest.approx(3.2015)
    finally:
        REGISTRY.unregister(spans)
