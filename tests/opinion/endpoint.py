"""A double of an OpenAI-compatible server, on a free port of loopback, that answers what a test wants."""

import contextlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "double"


@dataclass
class Seen:
    """One request."""

    path: str
    headers: dict[str, str]
    body: dict

    @property
    def said(self) -> list[dict]:
        """The utterances it asks about."""
        return json.loads(self.body["messages"][-1]["content"])["utterances"]


@dataclass
class Endpoint:
    """Answers every question with ``status`` and ``raw``; holds answers back while ``is_holding``."""

    status: int = 200
    raw: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._released = threading.Event()
        self._released.set()
        self.says({})

    def says(self, acts: dict[int, list[str]]) -> None:
        """The right answer: acts per utterance."""
        marked = [{"utterance": place, "acts": shown} for place, shown in acts.items()]
        self.writes(json.dumps({"utterances": marked}))

    def writes(self, content) -> None:
        """A completion whose message is ``content``."""
        message = {"role": "assistant", "content": content, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.raw = json.dumps({"id": "1", "object": "chat.completion", "choices": [choice], "usage": {}}).encode()

    def hold(self) -> None:
        """Answer nobody until :meth:`release`."""
        self._released.clear()

    def release(self) -> None:
        """Answer all."""
        self._released.set()

    @property
    def settings(self) -> dict:
        """For ``OpinionConfig``."""
        return {"url": self.url, "model": MODEL}

    def __enter__(self) -> "Endpoint":
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                endpoint.seen.append(Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                endpoint._released.wait(60)
                raw = endpoint.raw
                with contextlib.suppress(OSError):  # who asked has gone
                    self.send_response(endpoint.status)
                    for name, value in {"content-length": str(len(raw)), **endpoint.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                """Nothing is printed where who asked resets the connection: tests read what is printed."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._serving = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._serving.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._serving.join()
