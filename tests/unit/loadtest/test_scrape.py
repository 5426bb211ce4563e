"""The server's metrics, read back."""

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from loadtest.scrape import Moment, Scrape, describe_server, growth_bytes, quantile, scrape, series


class Server:
    """A server's series, as far as they are read."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("stillguard_requests", "", ["route", "outcome"], registry=self.registry)
        self.stages = Histogram("stillguard_stage_seconds", "", ["stage"], buckets=(0.01, 0.02, 0.04), registry=self.registry)
        self.batches = Histogram("stillguard_batch_items", "", buckets=(1, 8), registry=self.registry)
        self.rss = Gauge("process_resident_memory_bytes", "", registry=self.registry)
        self.cpu = Counter("process_cpu_seconds", "", registry=self.registry)
        self.queue = Gauge("stillguard_queue_items", "", registry=self.registry)
        Info("stillguard", "", registry=self.registry).info({"artifact_version": "7", "precision": "int8"})

    def moment(self, at_s: float) -> Moment:
        return Moment(at_s, Scrape(generate_latest(self.registry).decode()))


def test_the_server_is_described_by_what_grew():
    server = Server()
    server.requests.labels("native", "ok").inc(5)
    server.stages.labels("queue").observe(1.0)
    server.rss.set(100e6)
    first = server.moment(0.0)
    server.requests.labels("native", "ok").inc(30)
    server.requests.labels("openai", "ok").inc(10)
    server.requests.labels("openai", "shed").inc(2)
    for seconds in (0.005, 0.015, 0.015, 0.03):
        server.stages.labels("queue").observe(seconds)
    for items in (2, 6):
        server.batches.observe(items)
    server.cpu.inc(5.0)
    server.rss.set(110e6)
    server.queue.set(12)
    found = describe_server([first, server.moment(10.0)])
    assert found["requests"] == {"ok": 40, "shed": 2}
    assert found["cpu_cores"] == pytest.approx(0.5)
    assert found["rss_bytes"] == {"first": 100e6, "last": 110e6, "max": 110e6, "growth": None}
    assert found["windows_per_batch"] == 4
    assert found["max_queue_items"] == 12
    assert found["info"] == {"artifact_version": "7", "precision": "int8"}
    assert found["stages"].keys() == {"queue"}
    queue = found["stages"]["queue"]
    assert (queue["count"], queue["mean_s"]) == (4, pytest.approx(0.01625))
    assert queue["p50_s"] == pytest.approx(0.015), "one of four is below 10 ms, three below 20: linear between"


def test_one_look_says_nothing():
    assert describe_server([]) is None
    assert describe_server([Server().moment(0.0)]) is None


@pytest.mark.parametrize(("share", "seconds"), [(0.25, 0.01), (0.5, 0.02), (0.75, 0.03), (0.1, 0.004), (1.0, 0.03)])
def test_quantiles_are_those_of_prometheus(share, seconds):
    buckets = {0.01: 10, 0.02: 20, 0.03: 30, float("inf"): 40}
    assert quantile(buckets, share) == pytest.approx(seconds)


def test_memory_that_was_filled_once_has_not_grown():
    server = Server()

    def grown(*megabytes: float) -> float | None:
        moments = []
        for at_s, value in enumerate(megabytes):
            server.rss.set(value * 1e6)
            moments.append(server.moment(float(at_s)))
        return growth_bytes(moments)

    assert grown(100, 150, 200, 200, 200, 200, 200, 200) == 0
    assert grown(100, 110, 120, 130, 140, 150, 160, 170) == pytest.approx(40e6)
    assert grown(100, 110, 120) is None


def test_the_course_over_time():
    server = Server()
    first = server.moment(0.0)
    server.cpu.inc(1.5)
    rows = series([first, server.moment(1.0)])
    assert [row["cpu_cores"] for row in rows] == [0.0, pytest.approx(1.5)]
    assert [row["at_s"] for row in rows] == [0.0, 1.0]
    assert series([]) == []


@pytest.mark.parametrize("reply", [httpx.Response(404), httpx.Response(200, text="<html>"), httpx.ConnectError("no")])
def test_what_can_t_be_read_is_none(reply):
    def answer(_request: httpx.Request) -> httpx.Response:
        if isinstance(reply, Exception):
            raise reply
        return reply

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert scrape(client, "http://guard/metrics") is None
