"""An S3 server on this machine (moto's), behind a layer that fails as networks and stores do."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

FAULTS = ("error", "hang", "cut", "short", "lost")


class Faulty:
    """A WSGI application whose answers fail when they are told to.

    `error` answers 500 and `hang` nothing for a while, both without asking the server; `cut` breaks
    the answer off in its middle, `short` sends half of it as if that were all, and `lost` does what
    was asked and answers 500.

    Attributes:
        plan: faults of the requests to come, in order; None lets one through.
        share: of requests that fail by chance, by a fault of FAULTS.
        asked: method and path of each request.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.plan: list[str | None] = []
        self.share = 0.0
        self.hang_s = 3.0
        self.only: str = ""
        self.asked: list[str] = []
        self._random = random.Random(0)
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        with self._lock:
            self.asked.append(asked)
            fault = self._fault(asked)
        if fault is None:
            return self.app(environ, start)  # type: ignore[no-any-return]
        if fault == "hang":
            time.sleep(self.hang_s)
        if fault in ("error", "hang"):
            start("500 Internal Server Error", [("Content-Length", "0")])
            return []
        head: list[Any] = []
        body = b"".join(self.app(environ, lambda *given: head.extend(given)))
        if fault == "lost":
            start("500 Internal Server Error", [("Content-Length", "0")])
            return []
        half = body[: len(body) // 2]
        if fault == "short":
            named = [(k, v) for k, v in head[1] if k.lower() != "content-length"]
            start(head[0], [*named, ("Content-Length", str(len(half)))])
            return [half]
        start(*head)
        return _cut(half)

    def _fault(self, asked: str) -> str | None:
        if self.only not in asked:
            return None
        if self.plan:
            return self.plan.pop(0)
        return self._random.choice(FAULTS) if self._random.random() < self.share else None


def _cut(half: bytes) -> Iterator[bytes]:
    yield half
    raise ConnectionError("cut off")


class S3Server:
    """A running server.

    Attributes:
        faults: what fails.
        address: for AWS_ENDPOINT_URL.
    """

    def __init__(self) -> None:
        self.faults = Faulty(DomainDispatcherApplication(create_backend_app))

        class Quiet(MotoRequestHandler):
            def log(self, type: str, message: str, *args: Any) -> None:
                """Say nothing of broken connections: they are what is tested."""

        self._server = make_server("127.0.0.1", 0, self.faults, True, request_handler=Quiet)
        self._server.log = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
