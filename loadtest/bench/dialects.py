"""What each server is asked and answers: Stillguard's own format, and that of the peers."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


class WrongAnswer(ValueError):
    """An answer with status 200 that doesn't hold what it must."""


@dataclass(frozen=True, slots=True)
class Reply:
    """``windows`` is how many the server read, over all texts; ``infer_s`` the model's time; None where it doesn't say."""

    windows: int | None = None
    infer_s: float | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """One wire format. Its functions are a module's own, so that it can be sent to another process."""

    path: str
    write: Callable[[Sequence[str]], Any]
    read: Callable[[Any, int], Reply]

    def body(self, texts: Sequence[str]) -> bytes:
        return json.dumps(self.write(texts)).encode()

    def check(self, body: bytes, texts: int) -> Reply:
        """Raises WrongAnswer unless ``body`` holds finite scores for each of ``texts`` texts."""
        try:
            return self.read(json.loads(body), texts)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            if isinstance(error, WrongAnswer):
                raise
            raise WrongAnswer(f"{type(error).__name__} in the answer's form") from None


def check_rows(rows: Sequence[Sequence[float]], texts: int) -> None:
    """Raises WrongAnswer unless there is one row per text, none is empty, and every number lies between 0 and 1."""
    if len(rows) != texts:
        raise WrongAnswer(f"{len(rows)} results for {texts} texts")
    for row in rows:
        if not row or not all(math.isfinite(score) and 0 <= score <= 1 for score in row):
            raise WrongAnswer("scores that aren't finite probabilities")


def _write_native(texts: Sequence[str]) -> Any:
    return {"texts": [{"text": text} for text in texts]}


def _read_native(answer: Any, texts: int) -> Reply:
    results = answer["results"]
    check_rows([list(result["scores"].values()) for result in results], texts)
    if not {result["verdict"] for result in results} <= {"allow", "review", "block"}:
        raise WrongAnswer("a verdict that is none")
    return Reply(sum(result["windows"] for result in results), answer["timings"]["infer_s"])


def _write_scores(texts: Sequence[str]) -> Any:
    return {"text": texts[0]}


def _read_scores(answer: Any, texts: int) -> Reply:
    check_rows([answer["scores"]], texts)
    return Reply()


def _write_rows(texts: Sequence[str]) -> Any:
    return {"text": list(texts)}


def _read_rows(answer: Any, texts: int) -> Reply:
    check_rows(answer, texts)
    return Reply()


def _write_classify(texts: Sequence[str]) -> Any:
    return {"model": "student", "input": list(texts), "raw_scores": False}


def _read_classify(answer: Any, texts: int) -> Reply:
    check_rows([[label["score"] for label in row] for row in answer["data"]], texts)
    return Reply()


NATIVE = Dialect("/v1/check", _write_native, _read_native)
"""Stillguard."""
SCORES = Dialect("/predict", _write_scores, _read_scores)
"""The apps of LitServe and Ray Serve, one text at a time."""
ROWS = Dialect("/predict", _write_rows, _read_rows)
"""The app of BentoML, whose batching is over a list that the client sends."""
CLASSIFY = Dialect("/classify", _write_classify, _read_classify)
"""infinity."""
