"""``python -m server``: settings in, a serving process out. Exit code 2 and one line on stderr mean: mend the configuration."""

import math
import sys
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from server.app import Service, create_app, load_parts
from server.core.errors import ConfigurationError
from server.observability.logging import configure_logging
from server.settings import Settings, load_settings

CONFIGURATION_FAULT = 2


class GuardServer(uvicorn.Server):
    """uvicorn, but a stopping server drains while it can still answer, and a ready one says how to try it."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        host = "localhost" if host in ("0.0.0.0", "127.0.0.1", "::", "::1") else host
        print(
            f"ready: curl -s {host}:{port}/v1/check -H 'content-type: application/json' "
            """-d '{"texts":[{"text":"you are an idiot"}]}'""",
            flush=True,
        )

    async def shutdown(self, sockets=None) -> None:
        await self._service.drain()
        await super().shutdown(sockets)


def main(arguments: list[str]) -> int:
    try:
        settings = load_settings(arguments)
        configure_logging(settings.log_level)
        parts = load_parts(settings)
    except ConfigurationError as error:
        print(f"stillguard: {error}", file=sys.stderr)
        return CONFIGURATION_FAULT
    app = create_app(settings, parts)
    with suppress(KeyboardInterrupt):  # uvicorn raises it again after it has stopped in good order
        GuardServer(uvicorn_config(settings, app), app.state.service).run()
    return 0


def uvicorn_config(settings: Settings, app: FastAPI) -> uvicorn.Config:
    """One process, one event loop, and logs by way of ours."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        # What is left after draining waits for the teacher at most.
        timeout_graceful_shutdown=math.ceil(settings.teacher_timeout_s) + 1,
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
