"""``python -m server``: settings in, a serving process out.

Exit code 0: stopped in good order. 2, and one line on stderr: mend the configuration. 128 + a signal's number: the second
signal ended it at once.
"""

import asyncio
import gc
import math
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal, cast

import uvicorn
from fastapi import FastAPI

from server.accepting import Accepting
from server.app import create_app, create_private_app, load_parts
from server.core.errors import ConfigurationError
from server.doors.protocol import GuardProtocol, guard_protocol
from server.memory import give_back_memory
from server.observability.logging import configure_logging
from server.ports import try_ports
from server.service import Service
from server.settings import Settings, load_settings

CONFIGURATION_FAULT = 2
_COLLECT_AFTER_OBJECTS = 50_000


class AcceptingServer(uvicorn.Server):
    """uvicorn, but nobody waits long to be let in, however busy the event loop is."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._accepting = [Accepting(server, self._protocol, most=self.config.backlog) for server in self.servers]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.stop_accepting()
        await super().shutdown(sockets)

    async def stop_accepting(self) -> None:
        """Let those in who wait by now. May be called again."""
        for accepting in self._accepting:
            await accepting.close()

    def _protocol(self) -> asyncio.Protocol:
        """A connection's, as uvicorn makes it."""
        protocol: Any = self.config.http_protocol_class
        return protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


class PrivateServer(AcceptingServer):
    """The second port. :class:`GuardServer` opens and closes it, and hears the signals for both."""

    async def open(self) -> None:
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup()


class GuardServer(AcceptingServer):
    """The public port, but a stopping server drains while it can still answer, and a ready one says how to try it.

    SIGTERM or SIGINT stops it in good order, a second one at once. SIGHUP reloads artefact and policies.
    """

    def __init__(self, config: uvicorn.Config, service: Service, private: PrivateServer | None = None) -> None:
        super().__init__(config)
        self._service = service
        self._private = private

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._private is not None:  # first, so that probes and scrapes see a server that is starting
            await self._private.open()
        await super().startup(sockets)
        _settle_memory()
        host, port = _address(self)
        host = "localhost" if host in ("0.0.0.0", "127.0.0.1", "::", "::1") else host
        print(
            f"ready: curl -s {host}:{port}/v1/check -H 'content-type: application/json' "
            """-d '{"texts":[{"text":"you are an idiot"}]}'""",
            flush=True,
        )
        if self._private is not None:
            print("private port: {}:{}".format(*_address(self._private)), flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._say_goodbye()
        await self._service.drain()
        await self.stop_accepting()
        await _loop_turn()  # connections and requests that have arrived by now are seen, and answered
        for server in self.servers:
            server.close()
        await _loop_turn()
        await super().shutdown(sockets)
        if self._private is not None:
            await self._private.shutdown()

    def _say_goodbye(self) -> None:
        """Every reply is its connection's last from here on, so that no client writes into one that is being closed."""
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        for connection in cast(set[GuardProtocol], self.server_state.connections):
            if connection.cycle is not None:
                connection.cycle.keep_alive = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own raises the signals once more at the end, which makes a good end look like a death by signal."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()

        def on_hangup(_signal: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._service.reload_soon)

        handlers = {signal.SIGTERM: self.handle_exit, signal.SIGINT: self.handle_exit, signal.SIGHUP: on_hangup}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(128 + sig)  # the teacher's child ends with us, however we end
        self.should_exit = True


def main(arguments: list[str]) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):  # process 1 of a container has no default action for them
        signal.signal(number, _stop_loading)
    try:
        settings = load_settings(arguments)
        configure_logging(settings.log_level)
        try_ports(settings)
        app = create_app(settings, load_parts(settings))
    except ConfigurationError as error:
        return _refuse(error)
    _allow_many_connections()
    service = app.state.service
    private = None
    if settings.admin_port is not None:
        private = PrivateServer(private_config(settings, create_private_app(service, app.state.metrics)))
    try:
        GuardServer(uvicorn_config(settings, app), service, private).run()
    except SystemExit:  # uvicorn's own, when it can't start
        if isinstance(app.state.start_error, ConfigurationError):
            return _refuse(app.state.start_error)
        raise
    return 0


def _refuse(error: ConfigurationError) -> int:
    print(f"stillguard: {error}", file=sys.stderr)
    return CONFIGURATION_FAULT


def _stop_loading(_number: int, _frame: FrameType | None) -> None:
    """Before the ports open nothing was admitted, so there is nothing to drain. The server's own handlers follow."""
    raise SystemExit(0)


def _settle_memory() -> None:
    """What is loaded by now stays, so that no collection goes through it again; requests, which reference counting frees,
    don't set one off by being many at once; and what loading took and freed goes back to the system (16 MB)."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)
    give_back_memory()


def _allow_many_connections() -> None:
    """Take as many open files as we are allowed; the usual default, 1,024, is fewer than the clients that may be idle."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def uvicorn_config(settings: Settings, app: FastAPI) -> uvicorn.Config:
    """The public port: one process, one event loop, and logs by way of ours."""
    return _config(settings, app, host=settings.host, port=settings.port, lifespan="on")


def private_config(settings: Settings, app: FastAPI) -> uvicorn.Config:
    """The private port, which there is, on the public one's loop. Its app starts nothing."""
    assert settings.admin_port is not None
    return _config(settings, app, host=settings.admin_host, port=settings.admin_port, lifespan="off")


def _config(settings: Settings, app: FastAPI, *, host: str, port: int, lifespan: Literal["on", "off"]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=guard_protocol(  # type: ignore[arg-type] # called like a class, and nothing else
            read_timeout_s=settings.read_timeout_s,
            max_head_bytes=settings.max_head_bytes,
            on_refusal=app.state.metrics.turned_away,
        ),
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the client is
        timeout_keep_alive=settings.keep_alive_s,
        # What is left after draining waits for the teacher at most.
        timeout_graceful_shutdown=math.ceil(settings.teacher_timeout_s) + 1,
    )


def _address(server: uvicorn.Server) -> tuple[str, int]:
    return server.servers[0].sockets[0].getsockname()[:2]


async def _loop_turn() -> None:
    """Return when the event loop has looked once at what came in."""
    loop = asyncio.get_running_loop()
    turned = loop.create_future()
    loop.call_soon(loop.call_soon, turned.set_result, None)
    await turned


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if any(thread.daemon for thread in threading.enumerate()):
        os._exit(status)  # a session that is stuck in native code would crash while the interpreter takes itself apart
    raise SystemExit(status)
