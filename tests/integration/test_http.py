"""The public door's HTTP, byte by byte through real sockets: slow, silent, huge, broken and odd clients."""

import asyncio
import json
import socket
import threading

import pytest

from server.__main__ import GuardServer, uvicorn_config
from server.doors.protocol import MAX_OWED
from server.settings import Settings
from tests.integration.wire import BODY, HEAD, Wire, code_of, post


@pytest.fixture
async def open_server(fake_app):
    """``await open_server(**knobs)``: a server on a port of its own; gives a function that connects to it."""
    started, wires = [], []

    async def start(**knobs):
        gate = threading.Event()
        gate.set()
        app = fake_app(gate=gate, entered=threading.Event(), settings=knobs)
        server = GuardServer(uvicorn_config(Settings(port=0, **knobs), app), app.state.service)
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup()
        started.append(server)
        listening = server.servers[0].sockets[0]
        with socket.fromfd(listening.fileno(), socket.AF_INET, socket.SOCK_STREAM) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)  # or the kernel would hold megabytes of answers

        async def connect() -> Wire:
            wires.append(Wire(*await asyncio.open_connection(*listening.getsockname())))
            return wires[-1]

        return connect

    yield start
    for wire in wires:
        wire.writer.close()
    for server in started:
        await server.shutdown()


async def test_a_head_that_never_ends_is_answered_408(open_server):
    wire = await (await open_server(read_timeout_s=0.05))()
    await wire.send(HEAD)
    status, headers, body = await wire.reply()
    assert (status, code_of(body), headers["connection"]) == (408, "request_timeout", "close")
    assert json.loads(body)["id"] == headers["x-request-id"]
    assert await wire.is_closed()


async def test_a_head_that_drips_gets_no_more_time_than_one_that_stops(open_server):
    wire = await (await open_server(read_timeout_s=0.2))()
    await wire.send(HEAD)
    replied = asyncio.create_task(wire.reply())
    for _ in range(1_000):
        if (await asyncio.wait([replied], timeout=0.02))[0]:
            break
        await wire.send(b"X-Drip: 1\r\n")
    assert (await replied)[0] == 408


async def test_a_head_that_came_in_time_is_not_held_against_the_connection(open_server):
    wire = await (await open_server(read_timeout_s=0.3))()
    request = post()
    for begin in range(0, 45, 15):
        await wire.send(request[begin : begin + 15])
        assert not await wire.is_closed_within(0.01)
    await wire.send(request[45:])
    assert (await wire.reply())[0] == 200
    assert not await wire.is_closed_within(0.5)
    await wire.send(request)
    assert (await wire.reply())[0] == 200


async def test_a_request_that_has_begun_is_no_idle_connection(open_server):
    wire = await (await open_server(keep_alive_s=1))()
    request = post()
    await wire.send(request + request[:30])
    assert (await wire.reply())[0] == 200
    assert not await wire.is_closed_within(1.5)
    await wire.send(request[30:])
    assert (await wire.reply())[0] == 200


async def test_a_body_that_drips_meets_the_deadline_and_the_connection_ends_soon_after(open_server):
    wire = await (await open_server(request_timeout_s=0.1, read_timeout_s=0.1))()
    await wire.send(HEAD + b"Content-Length: 1000\r\n\r\n{")
    status, _, body = await wire.reply()
    assert (status, code_of(body)) == (408, "body_too_slow")
    assert await wire.is_closed()


@pytest.mark.parametrize("chunk", [1_000_000, 700])
async def test_a_head_that_is_too_large_is_answered_431_however_it_comes(open_server, chunk):
    wire = await (await open_server(max_head_bytes=2_000))()
    huge = HEAD + b"X-Huge: " + b"a" * 1_500 + b"\r\nX-More: " + b"b" * 500 + b"\r\n" + b"Content-Length: 0\r\n\r\n"
    for begin in range(0, len(huge), chunk):
        await wire.send(huge[begin : begin + chunk])
    status, headers, body = await wire.reply()
    assert (status, code_of(body), headers["connection"]) == (431, "request_header_fields_too_large", "close")
    assert await wire.is_closed()


async def test_a_head_within_the_bound_passes_beside_a_body_far_over_it(open_server):
    wire = await (await open_server(max_head_bytes=2_000))()
    body = json.dumps({"texts": [{"text": "plain " * 1_000 + "hate"}]}).encode()
    large = b"X-Large: " + b"a" * 1_800 + b"\r\n"
    first, second = post(body, more=large + b"Expect: 100-continue\r\n"), post(body, more=large)
    await wire.send(first[: -len(body)])
    assert (await wire.reply())[0] == 100
    await wire.send(body + second[:500])
    for rest in (second[500:], b""):
        status, _, reply = await wire.reply()
        assert (status, json.loads(reply)["results"][0]["verdict"]) == (200, "block")
        await wire.send(rest)


@pytest.mark.parametrize("bytes_sent", [b"", b"\r\n\r\n"])
async def test_a_connection_without_a_request_is_closed(open_server, bytes_sent):
    wire = await (await open_server(keep_alive_s=1))()
    await wire.send(bytes_sent)
    assert await wire.is_closed()


async def test_a_used_connection_is_closed_when_it_falls_silent(open_server):
    wire = await (await open_server(keep_alive_s=1))()
    await wire.send(post())
    assert (await wire.reply())[0] == 200
    await wire.send(b"\r\n")
    assert await wire.is_closed()


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", HEAD + b"Content-Length: x\r\n\r\n"])
async def test_what_is_not_http_is_answered_400_in_the_same_envelope(open_server, garbage):
    wire = await (await open_server())()
    await wire.send(garbage)
    status, headers, body = await wire.reply()
    assert (status, code_of(body), headers["content-type"]) == (400, "bad_request", "application/json")
    assert await wire.is_closed()


@pytest.mark.parametrize("chunk", [1_000_000, 50])
@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (HEAD + b"X-Huge: many\r\n" * 300 + b"\r\n", 431),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n", 400),
        (HEAD + b"X-Never-Ending: ", 408),
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", 400),
    ],
)
async def test_what_was_asked_before_is_answered_before_the_refusal(open_server, rest, status, chunk):
    wire = await (await open_server(max_head_bytes=2_000, read_timeout_s=0.2))()
    data = post() + post() + rest
    for begin in range(0, len(data), chunk):
        await wire.send(data[begin : begin + chunk])
    for _ in range(2):
        answered, _, body = await wire.reply()
        assert (answered, json.loads(body)["results"][0]["verdict"]) == (200, "block")
    refused, headers, _ = await wire.reply()
    assert (refused, headers["connection"]) == (status, "close")
    assert await wire.is_closed()


@pytest.mark.parametrize("rest", [b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\n{"])
async def test_a_client_that_closes_its_own_side_hears_what_it_asked(open_server, rest):
    wire = await (await open_server(request_timeout_s=30))()
    await wire.send(post() + post() + rest)
    wire.writer.write_eof()
    for _ in range(2):
        status, _, body = await wire.reply()
        assert (status, json.loads(body)["results"][0]["verdict"]) == (200, "block")
    assert await wire.is_closed()


@pytest.mark.parametrize("rest", [b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\n{"])
async def test_one_that_closes_its_own_side_having_asked_nothing_whole_is_hung_up_on(open_server, rest):
    wire = await (await open_server(request_timeout_s=30, read_timeout_s=30))()
    await wire.send(rest)
    wire.writer.write_eof()
    assert await wire.is_closed()


async def test_garbage_and_then_the_end_is_still_answered_and_refused(open_server):
    wire = await (await open_server())()
    await wire.send(post() + b"garbage\r\n\r\n")
    wire.writer.write_eof()
    assert [(await wire.reply())[0] for _ in range(2)] == [200, 400]
    assert await wire.is_closed()


async def test_pipelined_requests_are_answered_in_order(open_server):
    wire = await (await open_server())()
    texts = ["hate", "plain", "sexual", "plain", "violence"]
    await wire.send(b"".join(post(json.dumps({"texts": [{"text": text}]}).encode()) for text in texts))
    found = [json.loads((await wire.reply())[2])["results"][0]["categories"] for _ in texts]
    assert found == [["hate"], [], ["sexual"], [], ["violence"]]


async def test_requests_that_wait_for_no_answer_are_held_to_a_bound(open_server):
    wire = await (await open_server())()
    await wire.send(b"GET /livez HTTP/1.1\r\nHost: guard\r\n\r\n" * 1_000)
    for _ in range(MAX_OWED):
        assert (await wire.reply())[0] == 200
    assert await wire.is_closed()


async def test_a_client_that_does_not_read_is_hung_up_on(open_server):
    connect = await open_server(read_timeout_s=0.2)
    with socket.socket() as deaf:
        deaf.settimeout(30)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect((await connect()).writer.get_extra_info("peername"))

        def ask_on() -> None:
            while True:
                deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: guard\r\n\r\n")

        with pytest.raises(ConnectionError):
            await asyncio.to_thread(ask_on)
    wire = await connect()
    await wire.send(post())
    assert (await wire.reply())[0] == 200


@pytest.mark.parametrize("more", [b"Connection: close\r\n", b"Content-Length: 3\r\n", b"X-Line: 1\r\n" * 101])
async def test_a_refusal_reaches_a_client_that_sends_on_before_it_listens(open_server, more):
    connect = await open_server(max_body_bytes=100, read_timeout_s=30)
    address = (await connect()).writer.get_extra_info("peername")

    def ask() -> bytes:
        with socket.create_connection(address, timeout=30) as blocking, blocking.makefile("rb") as answer:
            blocking.sendall(post(b" " * 3_000_000, more=more))
            return answer.read(12)

    for _ in range(5):
        assert await asyncio.to_thread(ask) in (b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 431")


async def test_a_client_that_never_stops_sending_is_hung_up_on_all_the_same(open_server):
    wire = await (await open_server(max_body_bytes=100, read_timeout_s=0.2))()
    await wire.send(post(b" " * 3_000_000, more=b"Connection: close\r\n")[:-1])
    assert (await wire.reply())[0] == 413

    async def send_on() -> None:
        while True:
            await wire.send(b"more")

    with pytest.raises(ConnectionError):
        await send_on()


@pytest.mark.parametrize("more", [b"X-More: " + b"a" * 3_000, b"X: 1\r\n" * 200])
async def test_what_follows_a_body_is_bounded_as_a_head_is(open_server, more):
    wire = await (await open_server(max_head_bytes=2_000))()
    await wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
    await wire.send(more)
    assert (await wire.reply())[0] == 431
    assert await wire.is_closed()


async def test_a_chunked_body_is_read_and_bounded(open_server):
    connect = await open_server(max_body_bytes=100)
    wire = await connect()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    await wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert (await wire.reply())[0] == 200
    await wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"65\r\n" + b" " * 0x65 + b"\r\n0\r\n\r\n")
    status, _, body = await wire.reply()
    assert (status, code_of(body)) == (413, "too_large")
    await wire.send(post())
    assert (await wire.reply())[0] == 200, "what was left of the refused body is not taken for a request"


async def test_a_client_that_asks_first_is_told_to_go_on_or_refused_before_it_sends(open_server):
    connect = await open_server(max_body_bytes=100)
    wire = await connect()
    ask = b"Expect: 100-continue\r\n"
    await wire.send(HEAD + ask + b"Content-Length: %d\r\n\r\n" % len(BODY))
    assert await wire.reply() == (100, {}, b"")
    await wire.send(BODY)
    assert (await wire.reply())[0] == 200
    wire = await connect()
    await wire.send(HEAD + ask + b"Content-Length: 101\r\n\r\n")
    assert (await wire.reply())[0] == 413


async def test_the_rest_of_a_refused_body_is_not_waited_for_for_ever(open_server):
    wire = await (await open_server(max_body_bytes=100, read_timeout_s=0.1))()
    await wire.send(HEAD + b"Content-Length: 101\r\n\r\n")
    assert (await wire.reply())[0] == 413
    assert await wire.is_closed()


@pytest.mark.parametrize("method", [b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"GET"])
@pytest.mark.parametrize("path", [b"/v1/check", b"/v1/moderations"])
async def test_other_methods_are_refused_and_told_which_is_right(open_server, method, path):
    wire = await (await open_server())()
    await wire.send(method + b" " + path + b" HTTP/1.1\r\nHost: guard\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(60):
        head, _, body = (await wire.reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nallow: POST" in head
    assert body == b"" if method == b"HEAD" else code_of(body) == "method_not_allowed"


async def test_an_answer_without_a_body_comes_too_and_the_connection_lives_on(open_server):
    wire = await (await open_server())()
    await wire.send(b"HEAD /livez HTTP/1.1\r\nHost: guard\r\n\r\n")
    async with asyncio.timeout(60):
        head = await wire.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    await wire.send(post())
    assert (await wire.reply())[0] == 200


async def test_a_probe_may_ask_for_the_head_alone(open_server):
    wire = await (await open_server())()
    for path in (b"/livez", b"/readyz"):
        for method in (b"GET", b"HEAD"):
            await wire.send(method + b" " + path + b" HTTP/1.1\r\nHost: guard\r\n\r\n")
        status, expected, _ = await wire.reply()
        async with asyncio.timeout(60):
            head = (await wire.reader.readuntil(b"\r\n\r\n")).decode()
        assert status == 200
        assert head.startswith("HTTP/1.1 200 ")
        assert f"content-length: {expected['content-length']}\r\n" in head


async def test_what_comes_to_no_route_is_counted_by_its_status(open_server):
    connect = await open_server(read_timeout_s=0.05, max_head_bytes=2_000)
    get = b"GET /nope HTTP/1.1\r\nHost: guard\r\n\r\n"
    huge = HEAD + b"X-Huge: " + b"a" * 3_000 + b"\r\n\r\n"
    refused = {400: b"garbage\r\n\r\n", 404: get, 405: get.replace(b"/nope", b"/v1/check"), 408: HEAD, 431: huge}
    for status, data in refused.items():
        wire = await connect()
        await wire.send(data)
        assert (await wire.reply())[0] == status
    wire = await connect()
    await wire.send(get.replace(b"/nope", b"/v1/escalations/nothing"))
    assert (await wire.reply())[0] == 404
    await wire.send(get.replace(b"/nope", b"/metrics"))
    lines = (await wire.reply())[2].decode().splitlines()
    assert [line for line in lines if line.startswith("stillguard_turned_away_total")] == [
        f'stillguard_turned_away_total{{status="{status}"}} 1.0' for status in refused
    ]


async def test_many_silent_connections_keep_nobody_out(open_server):
    connect = await open_server()
    silent = [await connect() for _ in range(500)]
    wire = await connect()
    await wire.send(post())
    assert (await wire.reply())[0] == 200
    await silent[0].send(post())
    assert (await silent[0].reply())[0] == 200


@pytest.mark.parametrize("chunk", [1_000_000, 40])
async def test_an_upgrade_is_declined_by_answering_without_it(open_server, chunk):
    wire = await (await open_server())()
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    requests = post(more=offer) + post(more=offer) + post(more=offer.replace(b"Upgrade,", b"Upgrade, close,"))
    for begin in range(0, len(requests), chunk):
        await wire.send(requests[begin : begin + chunk])
    for _ in range(3):
        status, headers, body = await wire.reply()
        assert (status, json.loads(body)["results"][0]["verdict"]) == (200, "block")
    assert headers["connection"] == "close"


async def test_a_tunnel_is_refused(open_server):
    wire = await (await open_server())()
    await wire.send(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")
    assert (await wire.reply())[0] == 400
    assert await wire.is_closed()
