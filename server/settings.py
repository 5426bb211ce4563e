"""Every knob once: its type, its unit (in the name), its default, its bounds and what it does.

Each knob is an environment variable (``STILLGUARD_QUEUE_MAX_ITEMS``) and a flag (``--queue-max-items``); a flag wins.
``python -m server --help`` is made from this file.
"""

import difflib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import httpx
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from server.core.errors import ConfigurationError
from server.core.policy import DEFAULT_POLICY_FILE
from server.core.types import Device

ENV_PREFIX = "STILLGUARD_"
_SHIPPED_ARTIFACT = Path(__file__).resolve().parent / "artifacts" / "default"
_CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Stillguard: a real-time guardrail inference server."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        extra="forbid",
        frozen=True,
        cli_prog_name="python -m server",
        cli_kebab_case=True,
        cli_exit_on_error=False,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    keep_alive_s: int = Field(75, ge=1, le=3600, description="How long an idle connection stays open, in seconds.")
    admin_host: str = Field("127.0.0.1", description="Address of the private port.")
    admin_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Private port for /metrics, /livez, /readyz and /admin, without authentication; 0 takes a free one. "
        "Left out, there is none, and /metrics is on the public port.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log line to write.")
    otlp_endpoint: str | None = Field(
        None, description="URL of an OTLP/HTTP collector for traces, which go to its /v1/traces; left out, nothing is traced."
    )
    trace_share: float = Field(
        1.0, ge=0, le=1, description="Share of requests to trace; a caller's own decision (traceparent) goes before it."
    )

    artifact: Path = Field(_SHIPPED_ARTIFACT, description="Folder of the student's artefact.")
    artifact_public_key_file: Path | None = Field(
        None,
        description="PEM file of Ed25519 public keys: the artefact, and the teacher's folder where one is used, must be signed "
        "by one of them; left out, no signature is asked for.",
    )
    policies: Path = Field(DEFAULT_POLICY_FILE, description="TOML file of policies.")
    policy: str = Field("default", description="Id of the policy for requests that name none.")
    shadow_artifact: Path | None = Field(
        None, description="Folder of the shadow student's artefact, which is compared with the student and answers nobody."
    )
    shadow_artifact_share: Share = Field(
        0.05, description="Share of the texts that the shadow student scores too, after the answer."
    )
    drift_reference: Path | None = Field(
        None,
        description="JSON file from GET /admin/drift, or a list of such files, to measure drift against. Left out, or made by "
        "another artefact, the artefact's own reference is used.",
    )
    drift_window_s: float = Field(
        24 * 3600.0,
        ge=60,
        le=31 * 24 * 3600,
        allow_inf_nan=False,
        description="Length of the window of traffic that drift is measured on, in seconds.",
    )

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the student runs; auto takes a GPU for an FP16 or FP32 artefact, where one can be used."
    )
    sessions: int = Field(
        0, ge=0, le=256, description="Model sessions, one thread each; 0 means one per usable core, or one on a GPU."
    )
    session_restart_s: Seconds = Field(
        0.1, description="First pause before a session that died starts again, in seconds; doubles."
    )
    session_stuck_s: Seconds = Field(
        10.0, description="A model call that takes this long is abandoned and its session replaced, in seconds."
    )
    window_overlap_tokens: int = Field(32, ge=0, le=128, description="Tokens that neighbouring windows of a text share.")
    batch_max_items: int = Field(0, ge=0, description="Most windows in one model call; 0 means 32 on a CPU and 256 on a GPU.")
    batch_max_tokens: int = Field(
        0, ge=0, description="Most tokens in one model call, padding included; 0 means 192 on a CPU and 16384 on a GPU."
    )
    queue_max_items: Count = Field(1024, description="Most windows that wait; a request over it is shed.")
    queue_max_tokens: Count = Field(65_536, description="Most tokens that wait; a request over it is shed.")
    queue_max_wait_s: Seconds = Field(
        0.75, description="A request with more ahead of it than this, in seconds at the present rate, is shed."
    )
    encode_inline_chars: int = Field(
        2_000, ge=0, description="Requests of up to this many characters are encoded on the event loop, longer ones off it."
    )
    encode_max_chars: Count = Field(
        1_000_000, description="Most characters of long requests being encoded at once; a request over it is shed."
    )

    api_keys_file: Path | None = Field(
        None, description="TOML file of the API keys' hashes and rates; left out, everybody may ask."
    )
    request_timeout_s: Seconds = Field(
        5.0, description="Deadline of a request, in seconds; a client asks for a shorter one with X-Request-Timeout-S."
    )
    read_timeout_s: Seconds = Field(
        5.0,
        description="How long a request's head may take to arrive, the rest of a refused request, and an answer to be read, "
        "in seconds.",
    )
    max_head_bytes: int = Field(32 * 1024, ge=1024, description="Largest head of a request, in bytes.")
    read_max_bytes: Count = Field(
        64 * 1024 * 1024, description="Most bytes of half-sent request bodies held at once; a request over it is shed."
    )
    drain_timeout_s: Seconds = Field(10.0, description="How long a stopping server waits for admitted work, in seconds.")
    max_body_bytes: Count = Field(2 * 1024 * 1024, description="Largest request body, in bytes.")
    max_texts: Count = Field(256, description="Most texts in one request.")
    max_text_chars: Count = Field(100_000, description="Longest text, in characters.")
    max_windows: Count = Field(512, description="Most windows that one text may need, over both its views.")
    max_request_chars: Count = Field(200_000, description="Most characters over all texts of one request.")

    teacher: str = Field(
        "none",
        description='Who judges escalations: "embedded", "none", or the URL of an LLM server; several, separated by commas.',
    )
    teacher_model: str | None = Field(None, min_length=1, description="Model name to ask for at a teacher URL.")
    teacher_api: Literal["completions", "chat"] = Field(
        "completions", description="What a teacher URL speaks; chat takes one request per category instead of one per text."
    )
    teacher_top_logprobs: int = Field(
        20,
        ge=0,
        le=100,
        description="How many likely answers a teacher URL is asked to list with their log-probabilities; 0 asks for none, and "
        "a bare Yes or No is read.",
    )
    teacher_api_key_file: Path | None = Field(None, description="File that holds the API key for a teacher URL.")
    teacher_timeout_s: Seconds = Field(2.0, description="Deadline of an escalation, in seconds.")
    teacher_path: Path | None = Field(
        None,
        description="Folder of the teacher's adapter and calibration. Left out, the embedded teacher uses the shipped one, and "
        "the answers of a teacher at a URL are read as log-odds.",
    )
    teacher_threads: int = Field(1, ge=1, le=64, description="CPU threads of the embedded teacher.")
    teacher_max_memory_bytes: int = Field(
        1024**3,
        ge=64 * 1024**2,
        description="Most data of the embedded teacher, its mapped model not counted; over it, it restarts.",
    )

    teacher_try_timeout_s: Seconds | None = Field(
        None, description="Timeout of one attempt at one teacher URL, in seconds; what time is left goes to another URL."
    )
    teacher_hedge_after_s: Seconds | None = Field(
        None, description="After this many seconds without an answer, a second teacher URL is asked too; left out, never."
    )
    teacher_max_in_flight: Count = Field(16, description="Most texts being judged at once per teacher URL; more wait.")
    teacher_breaker_window: Count = Field(
        10, description="How many recent attempts at a teacher URL its circuit breaker counts."
    )
    teacher_breaker_failures: Count = Field(
        5, description="How many of the attempts in --teacher-breaker-window must have failed or been slow to open the breaker."
    )
    teacher_breaker_open_s: Seconds = Field(
        5.0, description="How long an open breaker waits before it lets one question through as a trial, in seconds."
    )
    teacher_slow_s: Seconds = Field(
        1.5, description="An attempt that takes longer counts as failed for the breaker, in seconds."
    )

    teacher_max_share: Share | None = Field(None, description="Most questions to the teacher, as a share of the texts checked.")
    teacher_max_per_s: Rate | None = Field(None, description="Most questions to the teacher per second.")
    teacher_max_tokens_per_s: Rate | None = Field(None, description="Most prompt tokens to the teacher per second, estimated.")
    teacher_key_max_share: Share | None = Field(None, description="As --teacher-max-share, for each API key.")
    teacher_key_max_per_s: Rate | None = Field(None, description="As --teacher-max-per-s, for each API key.")
    teacher_key_max_tokens_per_s: Rate | None = Field(None, description="As --teacher-max-tokens-per-s, for each API key.")
    teacher_cache_max_items: int = Field(10_000, ge=0, description="Most answers of the teacher that are kept; 0 keeps none.")
    teacher_cache_ttl_s: Seconds = Field(300.0, description="How long an answer of the teacher is kept, in seconds.")
    async_max_items: Count = Field(
        1_000,
        description='Most escalations under way or kept for a poll, under policies of mode "async"; more are over the budget. '
        "A result that was polled makes room.",
    )
    async_ttl_s: Seconds = Field(
        300.0, description="How long the result of an async escalation is kept, in seconds; more than teacher_timeout_s."
    )

    feedback_dir: Path | None = Field(
        None, description="Folder of the feedback log, for this server alone to read and write; left out, nothing is logged."
    )
    feedback_keep_text: bool = Field(
        False,
        description="Write texts and moderators' notes to the feedback log: only with the consent of those who wrote them. "
        "Off, a keyed hash stands for a text.",
    )
    feedback_hash_key_file: Path | None = Field(
        None,
        description="File of the key for the hashes of texts, created if missing; left out, hash.key in feedback_dir. Servers "
        "that share a key give a text the same hash.",
    )
    feedback_sample_share: float = Field(
        0.01, ge=0, le=1, description="Share of all texts to log, whatever their scores; escalated ones are logged anyway."
    )
    feedback_near_log_odds: float = Field(
        0.25, ge=0, le=10, description="Scores within so many log-odds of their block_at are logged as near it; 0: none."
    )
    feedback_max_per_s: Rate = Field(
        20.0, description="Most verdicts logged per second, more are dropped; and most corrections, more are told to wait."
    )
    feedback_max_bytes: int = Field(
        1024**3, ge=16 * 1024, description="Most bytes of all the log's files together; the oldest go first."
    )
    feedback_max_age_s: float = Field(
        30 * 86_400.0, ge=3_600, le=3_650 * 86_400.0, description="How long a record is kept at most, in seconds."
    )
    feedback_recall_max_items: Count = Field(
        50_000, description="How many texts' verdicts are remembered for corrections; about 0.5 kB each."
    )
    feedback_recall_s: float = Field(
        86_400.0, gt=0, le=30 * 86_400.0, description="How long verdicts are remembered for corrections, in seconds."
    )

    @field_validator("teacher")
    @classmethod
    def _teacher_is_known(cls, value: str) -> str:
        urls = _split(value)
        if value not in ("embedded", "none") and not (urls and all(map(_can_be_asked, urls))):
            raise ValueError('must be "embedded", "none", or a URL like http://host:8000')
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _otlp_endpoint_is_a_url(cls, value: str | None) -> str | None:
        if value is not None and not _can_be_asked(value):
            raise ValueError("must be a URL like http://collector:4318")
        return value

    @model_validator(mode="after")
    def _teacher_url_has_a_model(self) -> "Settings":
        if self.teacher_urls and self.teacher_model is None:
            raise ValueError("a teacher URL needs --teacher-model (STILLGUARD_TEACHER_MODEL)")
        return self

    @model_validator(mode="after")
    def _an_escalation_ends_before_it_is_forgotten(self) -> "Settings":
        if self.async_ttl_s <= self.teacher_timeout_s:
            raise ValueError("--async-ttl-s must be more than --teacher-timeout-s")
        return self

    @model_validator(mode="after")
    def _the_breaker_can_open(self) -> "Settings":
        if self.teacher_breaker_failures > self.teacher_breaker_window:
            raise ValueError("--teacher-breaker-failures must be at most --teacher-breaker-window")
        return self

    @model_validator(mode="after")
    def _a_whole_request_can_be_encoded(self) -> "Settings":
        if self.encode_max_chars < self.max_request_chars:
            raise ValueError("--encode-max-chars must be at least --max-request-chars")
        return self

    @property
    def teacher_urls(self) -> tuple[str, ...]:
        """Empty for a teacher that is embedded or none."""
        return () if self.teacher in ("embedded", "none") else _split(self.teacher)

    def sessions_on(self, device: Device) -> int:
        """``sessions``, with 0 replaced."""
        return self.sessions or (1 if device == "cuda" else usable_cores())

    def batch_items_on(self, device: Device) -> int:
        """``batch_max_items``, with 0 replaced."""
        return self.batch_max_items or (256 if device == "cuda" else 32)

    def batch_tokens_on(self, device: Device) -> int:
        """``batch_max_tokens``, with 0 replaced."""
        return self.batch_max_tokens or (16_384 if device == "cuda" else 192)


def load_settings(arguments: Sequence[str]) -> Settings:
    """Flags over environment over defaults.

    Raises:
        ConfigurationError: one line that names the knob and what is wrong with it; never its value, which may be secret.
        SystemExit: after ``--help``.
    """
    _refuse_unknown_variables(os.environ)
    try:
        return Settings(_cli_parse_args=list(arguments))
    except ValidationError as error:
        raise ConfigurationError("; ".join(_sentence(detail) for detail in error.errors(include_input=False))) from None
    except SettingsError as error:
        raise ConfigurationError(" ".join(str(error).split())) from None


def _split(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _can_be_asked(url: str) -> bool:
    """Whether our HTTP client finds a host there, and a port that there can be."""
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    has_port = found.port is None or 0 < found.port < 65_536
    return found.scheme in ("http", "https") and bool(found.host) and has_port and " " not in url


def usable_cores() -> int:
    """CPUs that this process may use: its affinity, and in a container the CPU limit (cgroup v2), rounded down to 1 or more."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)
    try:
        quota, period = _CGROUP_CPU_MAX.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def knob(name: str) -> str:
    """How messages call a setting: by its flag and its environment variable."""
    return f"--{name.replace('_', '-')} ({ENV_PREFIX}{name.upper()})"


def _refuse_unknown_variables(names: Iterable[str]) -> None:
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(names):
        if name.upper().startswith(ENV_PREFIX) and name.upper() not in known:
            close = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; see python -m server --help"
            raise ConfigurationError(f"unknown environment variable {name}{hint}")


def _sentence(detail: Mapping[str, object]) -> str:
    message = str(detail["msg"]).removeprefix("Value error, ")
    location = detail["loc"]
    if not isinstance(location, tuple) or not location:
        return message
    return f"{knob(str(location[0]).replace('-', '_'))}: {message}"
