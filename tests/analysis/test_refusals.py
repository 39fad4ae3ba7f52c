from __future__ import annotations

import pytest

from _traces import EPOCH_NS, http, llm, records, span, tool
from otel_agentperf.analysis.refusals import refusal

NAMES = """
429 503 529 http_429 openai.RateLimitError RateLimitError anthropic.OverloadedError overloaded_error rate_limit_error
ResourceExhausted RESOURCE_EXHAUSTED google.api_core.exceptions.ResourceExhausted ThrottlingException ThrottledError
TooManyRequests TooManyRequestsException ServiceUnavailable ServiceUnavailableError SlowDown
ProvisionedThroughputExceededException botocore.exceptions.RequestLimitExceeded QuotaExceeded
""".split()
OTHERS = """
error timeout 400 401 403 404 408 500 502 504 1429 5030 APITimeoutError ConnectionError ValueError KeyError
GraphRecursionError UsageLimitExceeded ContextLengthExceeded TooManyRedirects CancelledError PermissionDenied _OTHER
""".split()


@pytest.mark.parametrize("error", NAMES)
def test_the_names_of_a_refusal(error):
    assert refusal({}, error, EPOCH_NS).refused


@pytest.mark.parametrize("error", OTHERS)
def test_other_failures_are_none(error):
    assert not refusal({}, error, EPOCH_NS).refused


@pytest.mark.parametrize("key", ["http.response.status_code", "http.status_code"])
@pytest.mark.parametrize(("status", "refused"), [(429, True), ("503", True), (529, True), (500, False), (200, False)])
def test_the_status_tells_whatever_the_error_is_called(key, status, refused):
    assert refusal({key: status}, "error", EPOCH_NS).refused is refused


def test_grpc_has_a_code_of_its_own():
    assert refusal({"rpc.grpc.status_code": 8}, "error", EPOCH_NS).refused
    assert not refusal({"rpc.grpc.status_code": 14}, "error", EPOCH_NS).refused


@pytest.mark.parametrize(
    ("attributes", "seconds"),
    [
        ({"http.response.header.retry-after": ("2",)}, 2.0),
        ({"http.response.header.retry_after": ["2"]}, 2.0),
        ({"http.response.header.retry-after": "1.5"}, 1.5),
        ({"http.response.header.retry-after": '["3"]'}, 3.0),
        ({"http.response.header.retry-after-ms": ["250"]}, 0.25),
        ({"retry_after": 7}, 7.0),
        ({"retry_after": "7s"}, 7.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:00 GMT"}, 0.0),
        ({"retry_after": -3}, 0.0),
        ({"retry_after": True}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": []}, None),
        ({}, None),
    ],
)
def test_when_the_service_wants_to_be_asked_again(attributes, seconds):
    assert refusal({"http.response.status_code": 429, **attributes}, "429", EPOCH_NS).retry_after_s == seconds


def test_a_failure_that_says_when_to_ask_again_is_a_refusal():
    told = {"http.response.header.retry-after": ["5"]}
    assert refusal({**told, "http.response.status_code": 403}, "403", EPOCH_NS).refused
    assert refusal(told, "APIError", EPOCH_NS).refused


def test_a_success_that_says_so_is_none():
    told = {"http.response.header.retry-after": ["5"], "http.response.status_code": 202}
    assert refusal(told, None, EPOCH_NS) == (False, None)


def test_spans_of_any_kind_are_refused():
    tops = (http("https://x.io", 1.0, status=429), llm(1.0, error="openai.RateLimitError"), tool("t", 1.0, error="503"))
    assert [record.refused for record in records(*tops)] == [True, True, True]
    assert [record.refused for record in records(span("x", 1.0), llm(1.0, error="timeout"))] == [False, False]
