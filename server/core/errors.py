"""Every error that Stillguard raises on purpose.

    StillguardError
    ├── ConfigurationError          the server, a run or an export can't start: one line says why
    │   ├── ArtifactError           the artefact is missing, corrupt, or doesn't match this code
    │   └── PolicyError             the policy file is missing, malformed, or incomplete
    ├── ReloadInProgress            one reload at a time
    └── RequestError                one request can't be answered; its neighbours can
        ├── InvalidRequest          the client's fault: nothing was checked
        │   ├── TextTooLarge        a text or a list is over a bound
        │   └── UnknownPolicy       no policy has that id
        ├── QueueFull               shed at admission; try again after ``retry_after_s``
        ├── DeadlineExceeded        admitted, but its deadline passed before an answer
        ├── ShuttingDown            the server no longer admits work
        └── ClassifierFailed        the model failed on this text, or gave a score that is not a number

Messages never hold user text. How each maps to an HTTP status is one table: ``server/doors/errors.py``.
"""

from typing import ClassVar

from server.core.types import ErrorCode


class StillguardError(Exception):
    """The root: catching it catches what Stillguard raises on purpose and nothing else. The doors add five of their own to
    the tree of :class:`RequestError`, and the export one to the root."""


class ConfigurationError(StillguardError):
    """Something the operator must mend before starting again."""


class ArtifactError(ConfigurationError):
    """The artefact folder can't be trusted or doesn't fit this code."""


class PolicyError(ConfigurationError):
    """The policy file can't be used."""


class ReloadInProgress(StillguardError):
    """Artefact and policies are being reloaded already."""


class RequestError(StillguardError):
    """One request fails. ``code`` is stable and machine-readable; ``param`` names the offending field."""

    code: ClassVar[ErrorCode] = "request_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidRequest(RequestError):
    code: ClassVar[ErrorCode] = "invalid_request"


class TextTooLarge(InvalidRequest):
    """``text_index``: which text it is, where ``param`` is left to the door, which knows the client's name for it."""

    code: ClassVar[ErrorCode] = "too_large"

    def __init__(self, message: str, *, param: str | None = None, text_index: int | None = None) -> None:
        super().__init__(message, param=param)
        self.text_index = text_index


class UnknownPolicy(InvalidRequest):
    code: ClassVar[ErrorCode] = "unknown_policy"


class QueueFull(RequestError):
    """Raised at admission, before any work. ``retry_after_s`` is a whole number of seconds, at least 1."""

    code: ClassVar[ErrorCode] = "queue_full"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = max(1, retry_after_s)


class DeadlineExceeded(RequestError):
    code: ClassVar[ErrorCode] = "deadline_exceeded"


class ShuttingDown(RequestError):
    code: ClassVar[ErrorCode] = "shutting_down"


class ClassifierFailed(RequestError):
    code: ClassVar[ErrorCode] = "classifier_failed"
