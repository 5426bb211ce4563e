"""LitServe with one worker per core and dynamic batching."""

import litserve
from student import MAX_BATCH, PORT, WORKERS, Student


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._student = Student()

    def decode_request(self, request: dict) -> str:
        return request["text"]

    def batch(self, inputs: list[str]) -> list[str]:
        return list(inputs)

    def predict(self, texts: list[str]) -> list[list[float]]:
        return self._student.scores(texts)

    def unbatch(self, rows: list[list[float]]) -> list[list[float]]:
        return rows

    def encode_response(self, row: list[float]) -> dict:
        return {"scores": row}


if __name__ == "__main__":
    api = Api(max_batch_size=MAX_BATCH, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS)
    server.run(host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False, log_level="warning")
