"""The student as it is served: one artefact's parts, and the policies that were read with it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.batching.batcher import Batcher
from server.core.artifact import Manifest
from server.core.calibration import Calibration
from server.core.errors import ArtifactError
from server.core.histograms import DriftReference
from server.core.policy import PolicySet
from server.core.types import ArtifactId, Device
from server.inference.classifier import Classifier, Encoder


@dataclass(frozen=True, slots=True)
class StudentParts:
    """What one student is made of. One classifier per session, not warm; ``rebuild`` makes another of the same artefact.
    ``reference`` is what drift of its scores is measured against."""

    manifest: Manifest
    policies: PolicySet
    encoder: Encoder
    classifiers: Sequence[Classifier]
    rebuild: Callable[[], Classifier]
    device: Device = "cpu"
    reference: DriftReference | None = None


def warm_up(classifiers: Sequence[Classifier]) -> None:
    """Make each ready for its first request. On a thread: it takes a while.

    Raises:
        ArtifactError: the model can't be run. It was given made-up windows only, so the error's own words quote nobody.
    """
    for classifier in classifiers:
        try:
            classifier.warm_up()
        except (ArtifactError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in a library's Rust is no Exception
            reason = str(error).partition("\n")[0]
            raise ArtifactError(f"artifact: the model can't be run: {type(error).__name__}: {reason}") from error


class Student:
    """What answers a request, from its first step to its last; nothing in it is ever exchanged.

    A request holds one in a ``with`` block until the model has answered, and asks no other, so tokens, logits, calibration,
    thresholds and the echoed version are one artefact's, whatever is loaded in the meantime. A reload makes another
    ``Student`` and retires this one. The batcher is the student's own: what the old tokenizer wrote never reaches the new
    model.
    """

    def __init__(
        self,
        *,
        manifest: Manifest,
        policies: PolicySet,
        encoder: Encoder,
        batcher: Batcher,
        reference: DriftReference | None = None,
    ) -> None:
        self.artifact = ArtifactId(manifest.version, manifest.hash, manifest.precision)
        self.calibration: Calibration = manifest.calibration
        self.policies = policies
        self.encoder = encoder
        self.batcher = batcher
        self.reference = reference
        self._holders = 0
        self._unheld = asyncio.Event()

    def __enter__(self) -> "Student":
        self._holders += 1
        return self

    def __exit__(self, *_exception: object) -> None:
        self._holders -= 1
        if not self._holders:
            self._unheld.set()

    async def retire(self, timeout_s: float) -> bool:
        """Once no new request gets this student: wait for those that hold it, then end its sessions; at once if cancelled.

        Returns:
            True if everyone got an answer or error of their own within ``timeout_s``; otherwise the rest got ShuttingDown.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self._holders:
                    self._unheld.clear()
                    await self._unheld.wait()
            return await self.batcher.drain(timeout_s)
        except TimeoutError:
            return False
        finally:
            self.batcher.close()
