"""The page of metrics is what the code registers, and its queries ask for what is there."""

from pathlib import Path
from typing import get_args

import pytest

from server.core.types import ErrorCode
from server.doors.errors import ERROR_TABLE
from server.observability.reference import PREFIX, QUESTIONS, registered, render
from tests.promql import complaints, registered_series

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def test_the_page_is_current():
    expected = render(registered())
    assert PAGE.read_text(encoding="utf-8") == expected, "python -m server.observability.reference > docs/metrics.md"


@pytest.mark.parametrize(("question", "query"), QUESTIONS)
def test_each_question_is_answered_by_registered_series(question, query):
    assert list(complaints(query, registered_series())) == [], question


def test_names_have_our_prefix_and_base_units():
    names = [family.name for family in registered() if not family.name.startswith(("process_", "python_"))]
    assert [name for name in names if not (name + "_").startswith(PREFIX)] == []
    assert [name for name in names if name.endswith(("_s", "_ms", "_milliseconds", "_kb", "_mb", "_percent"))] == []
    assert len(names) == len(set(names))


def test_every_family_says_what_it_means():
    assert [family.name for family in registered() if len(family.documentation) < 10] == []


def test_every_code_of_an_error_can_be_counted():
    assert {error.code for error in ERROR_TABLE} | {"internal_error"} == set(get_args(ErrorCode))


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("rate(stillguard_request_total[5m])", "no series is named stillguard_request_total"),
        ('stillguard_requests_total{result="ok"}', "stillguard_requests_total has no label result"),
        ('stillguard_requests_total{outcome=~"ok|shedd"}', "stillguard_requests_total never has outcome=shedd"),
        ('stillguard_stage_seconds_bucket{le="0.06"}', "stillguard_stage_seconds_bucket never has le=0.06"),
        ("sum by (stages) (stillguard_stage_seconds_sum)", "nothing here has a label stages"),
    ],
)
def test_a_query_for_what_is_not_there_is_found(query, complaint):
    assert list(complaints(query, registered_series())) == [complaint]
