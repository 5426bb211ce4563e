"""The Locust user: sends what the play tells it, and has every answer judged."""

from gevent import GreenletExit
from locust import FastHttpUser, task
from locust.contrib.fasthttp import LocustBadStatusCode, ResponseContextManager
from locust.env import Environment
from locust.exception import StopUser

from loadtest.run.play import Play
from loadtest.scenario.exchange import Exchange
from loadtest.scenario.judge import Judged, Reply, judge

MAX_IDLE_S = 30.0
"""A connection that was idle for longer is opened anew, since the server may be closing it just then."""


class Stage(Environment):
    """Locust's environment, and what this process plays in it."""

    play: Play


class GuardUser(FastHttpUser):
    """One client with one connection."""

    concurrency = 1

    def __init__(self, stage: Stage) -> None:
        self.network_timeout = self.connection_timeout = stage.play.plan.timeout_s
        super().__init__(stage)
        self._play = stage.play

    def on_start(self) -> None:
        self._idle_since_s = self._play.now()

    @task
    def ask(self) -> None:
        """One request and its answer."""
        due_s = self._play.next_due()
        if due_s is None:
            raise StopUser
        index, exchange = self._play.next_exchange()
        headers, request_id = self._play.headers(exchange)
        sent_s = self._play.now()
        if sent_s - self._idle_since_s > MAX_IDLE_S:
            self.client.client.close()
        try:
            with self.client.request(
                exchange.method, exchange.path, exchange.kind, exchange.body, catch_response=True, headers=headers
            ) as response:
                judged = _judge(exchange, response, request_id)
                judged = self._play.ended(index, exchange, judged, due_s=due_s, sent_s=sent_s)
                # Locust's own statistics, for whoever listens to its events.
                response.request_meta["response_time"] = (self._play.now() - due_s) * 1e3
                if judged.outcome == "ok":
                    response.success()
                else:
                    response.failure(f"{judged.outcome}: {judged.complaint}")
        except GreenletExit:
            self._play.ended(index, exchange, Judged("unanswered"), due_s=due_s, sent_s=sent_s)
            raise
        self._idle_since_s = self._play.now()


def _judge(exchange: Exchange, response: ResponseContextManager, request_id: str) -> Judged:
    error = response.request_meta["exception"]
    if error is not None and not isinstance(error, LocustBadStatusCode):
        return Judged("unanswered" if isinstance(error, TimeoutError) else "lost", f"{exchange.kind}: {type(error).__name__}")
    headers = {name.lower(): value for name, value in (response.headers or {}).items()}
    return judge(exchange, Reply(response.status_code, headers, response.content or b""), request_id)
