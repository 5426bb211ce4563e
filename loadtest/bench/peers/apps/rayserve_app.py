"""Ray Serve with one replica per core and dynamic batching."""

from ray import serve
from starlette.requests import Request
from student import MAX_BATCH, PORT, WORKERS, Student


@serve.deployment(num_replicas=WORKERS, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Guard:
    def __init__(self) -> None:
        self._student = Student()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.005)
    async def scores(self, texts: list[str]) -> list[list[float]]:
        return self._student.scores(texts)

    async def __call__(self, request: Request) -> dict:
        return {"scores": await self.scores((await request.json())["text"])}


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Guard.bind(), route_prefix="/predict", blocking=True)
