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

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from server.core.errors import ConfigurationError
from server.core.policy import DEFAULT_POLICY_FILE

ENV_PREFIX = "STILLGUARD_"
_SHIPPED_ARTIFACT = Path(__file__).resolve().parent / "artifacts" / "default"
_CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


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
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log line to write.")

    artifact: Path = Field(_SHIPPED_ARTIFACT, description="Folder of the student's artefact.")
    policies: Path = Field(DEFAULT_POLICY_FILE, description="TOML file of policies.")
    policy: str = Field("default", description="Id of the policy for requests that name none.")

    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the student runs.")
    sessions: int = Field(
        0, ge=0, le=256, description="Model sessions, one thread each; 0 means one per usable core, or one on a GPU."
    )
    session_restart_s: Seconds = Field(
        0.1, description="First pause before a session that died starts again, in seconds; doubles."
    )
    window_overlap_tokens: int = Field(32, ge=0, le=128, description="Tokens that neighbouring windows of a text share.")
    batch_max_items: Count = Field(32, description="Most windows in one model call.")
    batch_max_tokens: Count = Field(
        512, description="Most tokens in one model call, padding included; a CPU is slower on more, a GPU wants 16384."
    )
    queue_max_items: Count = Field(1024, description="Most windows that wait; a request over it is shed.")
    queue_max_tokens: Count = Field(65_536, description="Most tokens that wait; a request over it is shed.")
    encode_inline_chars: int = Field(
        2_000, ge=0, description="Requests of up to this many characters are encoded on the event loop, longer ones off it."
    )
    encode_max_requests: Count = Field(64, description="Most long requests being encoded at once; one over it is shed.")

    request_timeout_s: Seconds = Field(5.0, description="The one deadline of a request, in seconds.")
    drain_timeout_s: Seconds = Field(10.0, description="How long a stopping server waits for admitted work, in seconds.")
    max_body_bytes: Count = Field(2 * 1024 * 1024, description="Largest request body, in bytes.")
    max_texts: Count = Field(256, description="Most texts in one request.")
    max_text_chars: Count = Field(100_000, description="Longest text, in characters.")
    max_request_chars: Count = Field(200_000, description="Most characters over all texts of one request.")

    teacher: str = Field("none", description='Who judges escalations: "embedded", "none", or the URL of an LLM server.')
    teacher_model: str | None = Field(None, min_length=1, description="Model name to ask for at a teacher URL.")
    teacher_api_key_file: Path | None = Field(None, description="File that holds the API key for a teacher URL.")
    teacher_timeout_s: Seconds = Field(2.0, description="The longest an escalation may take, in seconds.")
    teacher_path: Path | None = Field(
        None,
        description="Folder of the teacher's adapter and calibration. Left out, the embedded teacher uses the shipped one, and "
        "the answers of a teacher at a URL are read as log-odds.",
    )
    teacher_threads: int = Field(1, ge=1, le=64, description="CPU threads of the embedded teacher.")

    @field_validator("teacher")
    @classmethod
    def _teacher_is_known(cls, value: str) -> str:
        if value not in ("embedded", "none") and not value.startswith(("http://", "https://")):
            raise ValueError('must be "embedded", "none", or a URL that begins with http:// or https://')
        return value

    @model_validator(mode="after")
    def _teacher_url_has_a_model(self) -> "Settings":
        if self.teacher_url is not None and self.teacher_model is None:
            raise ValueError("a teacher URL needs --teacher-model (STILLGUARD_TEACHER_MODEL)")
        return self

    @property
    def teacher_url(self) -> str | None:
        return None if self.teacher in ("embedded", "none") else self.teacher

    @property
    def session_count(self) -> int:
        """``sessions``, with 0 replaced."""
        return self.sessions or (1 if self.device == "cuda" else usable_cores())


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


def usable_cores() -> int:
    """CPUs that this process may use: its affinity, and in a container the CPU limit (cgroup v2), rounded down to 1 or more."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)
    try:
        quota, period = _CGROUP_CPU_MAX.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


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
    name = str(location[0]).replace("-", "_")
    return f"--{name.replace('_', '-')} ({ENV_PREFIX}{name.upper()}): {message}"
