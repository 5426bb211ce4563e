"""BentoML with one worker per core and adaptive batching; ``bentoml serve bentoml_app:Guard``."""

import bentoml
from student import MAX_BATCH, WORKERS, Student


@bentoml.service(workers=WORKERS, traffic={"timeout": 60})
class Guard:
    def __init__(self) -> None:
        self._student = Student()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=10_000)
    def predict(self, text: list[str]) -> list[list[float]]:
        return self._student.scores(text)
