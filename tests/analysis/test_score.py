from __future__ import annotations

import pytest

from otel_agentperf.analysis.score import grade, resource_share, speed_share, success_share, weigh
from otel_agentperf.model import ResourceUsage, ScoreParts


@pytest.mark.parametrize(
    ("calls", "errors", "root_failed", "share"),
    [(4, 1, False, 0.75), (4, 0, False, 1.0), (0, 0, False, 1.0), (4, 1, True, 0.0), (3, 3, False, 0.0)],
)
def test_success(calls, errors, root_failed, share):
    assert success_share(calls, errors, root_failed) == share


@pytest.mark.parametrize(("duration", "share"), [(0, 1.0), (2.5, 0.75), (10, 0.0), (99, 0.0)])
def test_speed(duration, share):
    assert speed_share(duration, 10.0) == share


@pytest.mark.parametrize(
    ("usage", "share"),
    [
        (None, None),
        (ResourceUsage(), None),
        (ResourceUsage(250.0, 50.0), 0.625),
        (ResourceUsage(250.0, None), 0.75),
        (ResourceUsage(None, 250.0), 0.0),
        (ResourceUsage(4000.0, 0.0), 0.5),
    ],
)
def test_resource(usage, share):
    assert resource_share(usage) == share


def test_all_parts():
    assert weigh(ScoreParts(1.0, 0.5, 0.5)) == pytest.approx(0.7)


def test_what_is_missing_leaves_its_weight_to_the_others():
    assert weigh(ScoreParts(1.0, 0.5, None)) == pytest.approx((0.4 + 0.15) / 0.7)
    assert weigh(ScoreParts(None, None, 0.2)) == pytest.approx(0.2)
    assert weigh(ScoreParts()) is None
    assert weigh(ScoreParts(0.3, 0.3, 0.3), (1, 2, 3)) == pytest.approx(0.3)
    assert weigh(ScoreParts(0.3, None, None), (0, 1, 1)) is None


@pytest.mark.parametrize(
    ("score", "letter"),
    [(1, "A"), (0.9, "A"), (0.8999, "B"), (0.8, "B"), (0.7, "C"), (0.6, "D"), (0.5, "E"), (0.4999, "F"), (0, "F")],
)
def test_grade(score, letter):
    assert grade(score) == letter
