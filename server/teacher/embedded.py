"""The teacher that ships: llama.cpp in a child process, watched and restarted."""

import asyncio
import hashlib
import json
import logging
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from server.core.artifact import file_sha256
from server.core.calibration import Calibration, calibration_to_json
from server.core.policy import Rule
from server.core.prompt import ANSWERS, GUIDELINE, PromptForm
from server.core.taxonomy import Category, Role
from server.teacher.client import HttpTeacher
from server.teacher.teacher import Judgement, TeacherUnavailable

log = logging.getLogger(__name__)

CHILD = Path(__file__).with_name("llama_child.py")

LLAMA_CPP_FIELDS = {
    "logit_bias": [[answer, 100.0] for answer in ANSWERS],
    "post_sampling_probs": True,
    "samplers": ["temperature"],
    "temperature": 1.0,
    "logprobs": len(ANSWERS),
}
"""Makes llama.cpp list Yes and No and nothing else, so the margin is exactly logit(Yes) − logit(No).

The adapter was tuned on that difference alone. It may leave other tokens likelier than both, where a list of the
likeliest 20 would hold neither. The same bias on both moves no difference.
"""


MAX_CONNECTIONS = 2
"""One question in the child's single slot and one behind it. The others wait here, where an expired one costs nothing:
the child would notice only within a second that nobody waits for it."""


class EmbeddedTeacher:
    """A :class:`~server.teacher.teacher.Teacher` that runs its own server on 127.0.0.1.

    :meth:`start` returns at once. Until the child is up, and while it is being restarted, :meth:`judge` fails at once as
    ``unreachable``. A child that dies is started again after ``first_backoff_s``, doubled on each failure up to
    ``max_backoff_s``; one that served for ``max_backoff_s`` starts the count anew. One that lives and answers nothing any more
    is killed, and counts as dead. The child ends with this process, however that ends. It runs at a lower priority than the
    server, takes at most ``max_memory_bytes``, and is the first that the kernel kills where memory runs out.

    Args:
        model: the base, a GGUF file.
        lora: the adapter, a GGUF file; None serves the base alone.
        form: how the teacher is asked.
        threads: of the child's computing; the server's own sessions keep the rest of the cores.
        max_memory_bytes: of the child's own data, the mapped model file not counted; over it the child dies and is started
            again.
        context_tokens: the longest prompt, the text's tokens and about 150 more; a longer one fails as ``error``.
        start_timeout_s: a child that isn't ready by then is killed and counts as dead.
        hung_s: so is one that let questions wait for this long in all, each until its deadline, without any reply between them.
        on_change: called with True when the child becomes ready and with False when it no longer is.
    """

    name = "embedded"

    def __init__(
        self,
        model: Path,
        *,
        lora: Path | None,
        calibration: Calibration,
        form: PromptForm = GUIDELINE,
        threads: int = 1,
        max_memory_bytes: int = 1 << 30,
        context_tokens: int = 2048,
        start_timeout_s: float = 60.0,
        hung_s: float = 10.0,
        first_backoff_s: float = 0.5,
        max_backoff_s: float = 30.0,
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        options = {
            "--model": model,
            "--threads": threads,
            "--max-memory-bytes": max_memory_bytes,
            "--context-tokens": context_tokens,
        }
        if lora is not None:
            options["--lora"] = lora
        # -P keeps this folder off the child's import path, where a name of ours could hide a library's.
        self._command = [sys.executable, "-P", str(CHILD), *(str(word) for pair in options.items() for word in pair)]
        parts = [model.name, lora and file_sha256(lora), form.name, calibration_to_json(calibration)]
        self.identity = f"embedded@{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]}"
        self._calibration = calibration
        self.form = form
        self._start_timeout_s = start_timeout_s
        self._hung_s = hung_s
        self._first_backoff_s = first_backoff_s
        self._max_backoff_s = max_backoff_s
        self._on_change = on_change
        self._waited_in_vain_s = 0.0
        self._has_hung = asyncio.Event()
        self._ready = asyncio.Event()
        self._closing = asyncio.Event()
        self._http: HttpTeacher | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._ready_at: float | None = None
        self.pid: int | None = None
        """The child's process id; None while there is no child."""

    @property
    def is_ready(self) -> bool:
        """The child has said that it can answer, and isn't known to have died since."""
        return self._http is not None

    async def start(self) -> None:
        """Begin to run the child. Call once, on the loop that will ask."""
        self._supervisor = asyncio.create_task(self._supervise(), name="teacher-supervisor")

    async def wait_ready(self) -> None:
        """Return when the child is up; for tools that need the teacher. Bound the wait with a timeout."""
        await self._ready.wait()

    async def judge(self, text: str, role: Role, rules: Mapping[Category, Rule], *, deadline: float) -> Judgement:
        """See :class:`~server.teacher.teacher.Teacher`."""
        if self._http is None:
            raise TeacherUnavailable("unreachable", "the embedded teacher isn't up", is_teachers_fault=False)
        began = time.monotonic()
        try:
            judgement = await self._http.judge(text, role, rules, deadline=deadline)
        except TeacherUnavailable as error:
            if error.outcome == "error":  # which is a reply too
                self._waited_in_vain_s = 0.0
            elif error.outcome == "deadline":
                self._waited_in_vain_s += time.monotonic() - began
            if self._waited_in_vain_s >= self._hung_s:
                self._has_hung.set()
            raise
        self._waited_in_vain_s = 0.0
        return judgement

    async def close(self) -> None:
        """End the child and stop watching. Returns when the child is gone."""
        self._closing.set()
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])

    async def _supervise(self) -> None:
        backoff_s = self._first_backoff_s
        while not self._closing.is_set():
            self._ready_at = None
            try:
                reason = await self._run_child()
            except Exception as error:  # whatever it is, watching goes on
                reason = f"can't be run: {error!r}"
            if self._ready_at is not None and time.monotonic() - self._ready_at >= self._max_backoff_s:
                backoff_s = self._first_backoff_s
            log.warning("embedded teacher %s; starting it again in %.2f s", reason, backoff_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff_s):
                    await self._closing.wait()
            backoff_s = min(2 * backoff_s, self._max_backoff_s)

    async def _run_child(self) -> str:
        """Run one child from its start to its end; why it ended, for the log."""
        pipe = asyncio.subprocess.PIPE
        # Its own session: Ctrl-C in a terminal stops the server, which drains first and then ends its child.
        child = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe, start_new_session=True)
        self.pid = child.pid
        try:
            address, api_key = await self._introduce(child)
            if address is None:
                return f"wasn't ready within {self._start_timeout_s} s"
            if address:
                self._become_ready(address, api_key)
            return await self._watch(child)
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            self.pid = None
            await self._become_unready()
            await child.wait()

    async def _introduce(self, child: asyncio.subprocess.Process) -> tuple[str | None, str]:
        """(address, API key); an empty address if the child ended instead, None if it took too long."""
        api_key = secrets.token_urlsafe(24)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{api_key}\n".encode())
        try:
            async with asyncio.timeout(self._start_timeout_s):
                return (await child.stdout.readline()).decode().strip(), api_key
        except TimeoutError:
            return None, api_key

    async def _watch(self, child: asyncio.subprocess.Process) -> str:
        """Wait until it ends or hangs; which of the two, for the log."""
        ends = [asyncio.create_task(event) for event in (child.wait(), self._has_hung.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        if child.returncode is None:
            return f"let questions wait for {self._hung_s} s and answered none"
        return f"ended with exit status {child.returncode}"

    def _become_ready(self, address: str, api_key: str) -> None:
        self._http = HttpTeacher(
            address,
            model="embedded",
            calibration=self._calibration,
            form=self.form,
            api_key=api_key,
            max_connections=MAX_CONNECTIONS,
            extra=LLAMA_CPP_FIELDS,
        )
        self._waited_in_vain_s = 0.0
        self._has_hung.clear()
        self._ready_at = time.monotonic()
        self._ready.set()
        log.info("embedded teacher ready, pid %d", self.pid)
        if self._on_change:
            self._on_change(True)

    async def _become_unready(self) -> None:
        if self._http is None:
            return
        http, self._http = self._http, None
        self._ready.clear()
        if self._on_change:
            self._on_change(False)
        await http.close()
