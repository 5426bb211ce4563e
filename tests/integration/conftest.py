"""A whole server made of the shipped fakes: every layer is real but the model and the teacher."""

import io
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from server.app import create_app, create_private_app
from server.core.artifact import Manifest
from server.core.calibration import IDENTITY
from server.core.policy import OnNoTeacher, PolicySet
from server.core.taxonomy import CATEGORIES
from server.inference.classifier import Encoder
from server.inference.fake import FakeClassifier, FakeEncoder
from server.observability.logging import configure_logging
from server.service import Parts, StudentParts
from server.settings import Settings
from server.teacher.fake import FakeTeacher
from server.teacher.teacher import Teacher
from tests.steady import steady_policy

MANIFEST = Manifest(
    version="test-1",
    precision="fp32",
    categories=CATEGORIES,
    max_tokens=34,
    calibration=IDENTITY,
    prompt_hash=None,
    policy_hash="none",
    files={},
    metrics={},
    provenance={},
)

PATIENT = {"request_timeout_s": 60, "teacher_timeout_s": 60, "drain_timeout_s": 60}
"""A busy machine fails no test; those about deadlines set their own."""


@dataclass
class Guard:
    """One server, a client to it, and what its fakes saw."""

    app: FastAPI
    client: httpx.AsyncClient
    teacher: Teacher
    gate: threading.Event
    entered: threading.Event

    async def check(self, *texts: str, **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/check", json={"texts": [{"text": text} for text in texts]} | fields)

    async def result(self, text: str) -> dict[str, Any]:
        reply = await self.check(text)
        assert reply.status_code == 200, reply.text
        return reply.json()["results"][0]

    async def metric(self, name: str, **labels: str) -> float:
        """One sample's value, as a scrape would read it."""
        scrape = await self.client.get("/metrics")
        found = [
            sample.value
            for family in text_string_to_metric_families(scrape.text)
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        assert len(found) == 1, f"{len(found)} samples are named {name} and labelled {labels}"
        return found[0]


@dataclass
class GuardOptions:
    settings: dict[str, Any] = field(default_factory=dict)
    teacher: Teacher = field(default_factory=FakeTeacher)
    more_teachers: Sequence[Teacher] = ()
    on_no_teacher: OnNoTeacher = "student"
    policy: Mapping[str, Any] = field(default_factory=dict)
    classifier: Mapping[str, Any] = field(default_factory=dict)
    encoder: Encoder = field(default_factory=lambda: FakeEncoder(max_tokens=34, overlap_tokens=8))
    is_gated: bool = False
    reload: Callable[[Path | None, Callable[[], StudentParts]], StudentParts] = lambda _folder, make_student: make_student()
    """What a reload loads; called with the folder that was asked for, and a maker of the same student."""


def build_app(options: GuardOptions, gate: threading.Event, entered: threading.Event) -> FastAPI:
    default = steady_policy()
    policies = PolicySet(
        [
            replace(default, on_no_teacher=options.on_no_teacher, **options.policy),
            replace(default, id="other", version="7"),
        ],
    )

    def make_classifier() -> FakeClassifier:
        return FakeClassifier(gate=gate, entered=entered, **options.classifier)

    def make_student() -> StudentParts:
        return StudentParts(MANIFEST, policies, options.encoder, [make_classifier()], make_classifier)

    teachers = [options.teacher, *options.more_teachers]
    parts = Parts(make_student(), teachers, reload=lambda folder: options.reload(folder, make_student))
    return create_app(Settings(**PATIENT | options.settings), parts)


@pytest.fixture
def fake_app() -> Callable[..., FastAPI]:
    """``fake_app(gate=…, entered=…, **GuardOptions)``: the application, not started."""
    return lambda *, gate, entered, **options: build_app(GuardOptions(**options), gate, entered)


@pytest.fixture
async def open_guard() -> AsyncIterator[Callable[..., Any]]:
    """``await open_guard(**GuardOptions)``: a started server; with ``is_gated`` its model waits for ``guard.gate``."""
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> Guard:
            chosen = GuardOptions(**options)
            gate, entered = threading.Event(), threading.Event()
            if not chosen.is_gated:
                gate.set()
            app = build_app(chosen, gate, entered)
            await stack.enter_async_context(app.router.lifespan_context(app))
            stack.callback(gate.set)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://guard"))
            return Guard(app, client, chosen.teacher, gate, entered)

        yield start


@pytest.fixture
async def open_private() -> AsyncIterator[Callable[[Guard], httpx.AsyncClient]]:
    """``open_private(guard)``: a client to the private port of a started server."""
    clients = []

    def start(guard: Guard) -> httpx.AsyncClient:
        app = create_private_app(guard.app.state.service, guard.app.state.metrics)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://private"))
        return clients[-1]

    yield start
    for client in clients:
        await client.aclose()


@pytest.fixture
def log_lines():
    """The server's log as it would be on stderr."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logging("debug", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
