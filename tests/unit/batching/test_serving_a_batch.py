"""One batch through one model: what is tried again, and what isn't."""

from server.batching.item import Request
from server.batching.serving import serve


def request_of(*payloads, deadline=1e18):
    return Request([(payload, 4) for payload in payloads], queued_at=0.0, deadline=deadline, future=None)


class Classify:
    """Doubles its payloads; ``before`` is called with those of each call, and may raise."""

    def __init__(self, before=lambda payloads: None):
        self.calls = []
        self._before = before

    def __call__(self, payloads):
        self.calls.append(payloads)
        self._before(payloads)
        return [2 * payload for payload in payloads]


def answered(report):
    return [(item.payload, answer.row) for item, answer in report.answers]


def test_what_nobody_wants_any_more_is_not_tried_again():
    gone, wanted = request_of(1, 2), request_of(3, 4)

    def fail_in_company(payloads):
        if len(payloads) == 4:
            gone.end(None)
        if len(payloads) > 1:
            raise RuntimeError

    classify = Classify(fail_in_company)
    report = serve([*gone.items, *wanted.items], classify, lambda row: True)
    assert classify.calls == [[1, 2, 3, 4], [3], [4]]
    assert answered(report) == [(3, 6), (4, 8)]
    assert (report.failed, report.death, report.is_clean) == ([], None, False)


def test_what_has_expired_meanwhile_is_not_tried_again():
    expired, wanted = request_of(1, deadline=0.0), request_of(2)

    def fail_in_company(payloads):
        if len(payloads) > 1:
            raise RuntimeError

    classify = Classify(fail_in_company)
    report = serve([*expired.items, *wanted.items], classify, lambda row: True)
    assert classify.calls == [[1, 2], [2]]
    assert (answered(report), report.failed) == ([(2, 4)], [])


def test_rows_too_many_are_nobodys():
    """Which row is whose can't be told: each item is asked about alone, until the number is right."""
    (first, second), calls = request_of(1, 2).items, []

    def classify(payloads):
        calls.append(payloads)
        rows = [2 * payload for payload in payloads]
        return [0, *rows] if 2 in payloads else rows

    report = serve([first, second], classify, lambda row: True)
    assert calls == [[1, 2], [1], [2]]
    assert answered(report) == [(1, 2)]
    assert (report.failed, report.death) == ([second], None)
