"""The HTTP server of a reward: one request is paid at a time, the others wait for at most their time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from evals.graders import Grader
from evals.values.errors import InputError, UndecidableError
from evals.values.json_text import parse_json
from harness.evaluate.spending import keep_graders
from harness.evaluate.spending_line import SpendingLine, spent_by
from harness.gate.gate import open_source
from harness.gate.rewards import LiveReward
from harness.keys.serve import ServeConfig
from harness.runtime.console import Console
from harness.serve.answers import OPENRLHF, PATH, NoReward, TooMany, answer
from harness.subjects.completions import CompletionFile
from harness.subjects.graders import GRADES
from trainers.reward.function import RewardFunction
from trainers.reward.reward import Reward, SumOfTerms
from trainers.reward.rule_based_term import RuleBasedTerm

HEALTH = "/health"
MOST_BYTES = 64 * 1024 * 1024  # of a request
Answer = Callable[[str, Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class ServedReward:
    """A reward that is asked, and its grader, whose server's budgets go on from what was asked of it before."""

    function: RewardFunction
    grader: Grader

    @property
    def spent(self) -> str:
        return spent_by(self.grader)


def load_served(config: ServeConfig) -> ServedReward:
    """The reward, loaded. Raises InputError for what is no reward, and for one that is recorded."""
    place = Path(config.store) / GRADES
    source = open_source(config.reward, "reward", place, CompletionFile(place, None))
    if source.live is None:
        fix = "name a description, a fit or a run"
        raise InputError(
            "is recorded: it can say nothing of new responses", path=config.reward, field="reward", fix=fix
        )
    keep_graders({"grader": source.live.grader}, "serve", config.store, "serve", config.reward)
    function = RewardFunction(reward_of(source.live), max_unscored=1.0, thoughts=config.thoughts)
    return ServedReward(function, source.live.grader)


def reward_of(live: LiveReward) -> Reward:
    """Reward model and rules as they are paid in training."""
    terms: list[Reward] = [] if live.reward_model is None else [live.reward_model]
    return SumOfTerms([*terms, RuleBasedTerm(live.rulebook, live.grader, live.weights())])


class RewardServer(ThreadingHTTPServer):
    """Serves a reward at the address of the keys; `port` is the one that it has. `console` is told what is spent."""

    daemon_threads = True

    def __init__(self, config: ServeConfig, served: ServedReward, console: Console | None = None) -> None:
        self.config, self.served = config, served
        self._line, self._lock = SpendingLine(console or Console(), served.grader), threading.Lock()
        self._workers = ThreadPoolExecutor(max_workers=32, thread_name_prefix="reward")
        try:
            super().__init__((config.host, config.port), Handler)
        except OSError as error:
            where = f"{config.host}:{config.port}"
            problem = f"cannot be listened on ({error.strerror or error})"
            raise InputError(problem, field=where, fix="give another host= or port=") from None

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def pay(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Raises TookTooLong beyond the time of a request; what is then being paid goes on, and its grades are kept."""
        return self._workers.submit(self._alone, path, body).result(self.config.timeout_s)

    def _alone(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            try:
                return answer(path, body, self.served.function, self.config.max_batch)
            finally:
                self._line.tell()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is gone is no event; a traceback could hold what it sent."""

    def server_close(self) -> None:
        super().server_close()
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._line.tell(0.0)


class Handler(BaseHTTPRequestHandler):
    """JSON in and out; no text of a prompt or a response is logged."""

    server: RewardServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == HEALTH:
            health = {"status": "ok", "max_batch": self.server.config.max_batch}
            spent = self.server.served.spent
            return self._send(200, {**health, **({"asked": spent} if spent else {})})
        return self._send(404, {"error": f"ask {PATH} or {OPENRLHF}"})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            self.close_connection = True
            return self._send(
                413 if length.isdecimal() else 411, {"error": f"send at most {MOST_BYTES} bytes"}
            )
        raw = self.rfile.read(int(length))
        if self.path not in (PATH, OPENRLHF):
            return self._send(404, {"error": f"ask {PATH} or {OPENRLHF}"})
        return self._send(*self._answer(raw))

    def _answer(self, raw: bytes) -> tuple[int, dict[str, Any]]:
        try:
            body = parse_json(raw.decode())
        except (UnicodeDecodeError, ValueError):
            return 400, {"error": "the body is no JSON"}
        if not isinstance(body, dict):
            return 400, {"error": "the body is no JSON object"}
        try:
            return 200, self.server.pay(self.path, body)
        except TooMany as error:
            return 413, {"error": str(error)}
        except InputError as error:
            return 400, {"error": str(error)}
        except NoReward as error:
            return 422, {"error": str(error), "unscored": {str(k): v for k, v in error.reasons.items()}}
        except TookTooLong:
            return 504, {"error": f"took more than {self.server.config.timeout_s} s"}
        except UndecidableError as error:
            return 503, {"error": str(error)}
        except Exception as error:
            # Its words may be the conversation's: whoever asks is told of what kind it is.
            return 500, {"error": f"a fault of the server's own ({type(error).__name__})"}

    def _send(self, status: int, content: Mapping[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""
