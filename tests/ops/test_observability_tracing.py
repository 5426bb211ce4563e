"""Traces of the real server through a real collector."""

import httpx

from tests.ops.observability_stack import PATIENCE_S, free_port, guard, http_stub, judge, running, until
from tests.ops.tools import need
from tests.otlp import attributes, otlp_receiver

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CANARY = "canary7f3a"


def test_spans_go_through_a_collector(tmp_path):
    agent = need("rotel-agent")
    http_address, grpc_address = (f"127.0.0.1:{free_port()}" for _ in range(2))
    with otlp_receiver() as receiver:
        command = [agent, "start", "--otlp-http-endpoint", http_address, "--otlp-grpc-endpoint", grpc_address]
        command += ["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", receiver.url]
        command += ["--pid-file", tmp_path / "rotel.pid"]
        with (
            running(command, tmp_path / "collector.log"),
            http_stub(judge) as teacher,
            httpx.Client(trust_env=False, timeout=PATIENCE_S) as client,
        ):
            # An empty body is an export of no spans.
            protobuf = {"content-type": "application/x-protobuf"}
            until(lambda: client.post(f"http://{http_address}/v1/traces", headers=protobuf), wanted="a collector that listens")
            flags = ["--otlp-endpoint", f"http://{http_address}", "--teacher", teacher, "--teacher-model", "stub"]
            with guard(tmp_path, *flags) as server:
                reply = client.post(
                    f"{server.url}/v1/check", json={"texts": [{"text": CANARY}]}, headers={"traceparent": CALLER}
                )
                assert reply.status_code == 200, reply.text
            until(lambda: receiver.named("POST /v1/check"), wanted="the request's span")
            (request,) = receiver.named("POST /v1/check")
        assert request.trace_id.hex() == CALLER.split("-")[1]
        assert attributes(request)["stillguard.request_id"] == reply.json()["id"]
        names = {span.name for span in receiver.spans}
        assert {"encode", "queue", "infer"} <= names
        assert CANARY not in str(receiver.requests)
        assert CANARY not in (tmp_path / "server.log").read_text()
