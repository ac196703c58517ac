"""The paths of a server: /predict and /explain, /health, /metadata, /metrics, the page at /.

In: what labels rows, and what it is. Out: an ASGI app with its worker. The body of a request is
read in one place, bounded in size and time, and whoever waits for labels waits for them, for the
deadline and for the client's leaving at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from foldwise.errors import FoldwiseError
from foldwise.serving.answers import as_json, labelled_rows
from foldwise.serving.batching import Answer, Asked, Batcher
from foldwise.serving.described import (
    REFUSED_SCHEMA,
    Served,
    explanation_schema,
    labels_schema,
    rows_schema,
)
from foldwise.serving.explaining import Explain
from foldwise.serving.guard import Guard
from foldwise.serving.limits import Limits, Refused
from foldwise.serving.meters import Meters
from foldwise.serving.rows import parse_rows

_PAGE = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_OPEN = ("/health", "/health/live", *_PAGE)  # say nothing of the run
_READ_BEYOND = 10  # times the largest body: so much is read of one before it is refused
_GONE = 499  # what servers log for a client that left


@dataclass
class Server:
    """What answers the requests of one run.

    Attributes:
        label: rows -> prediction and prob_*, called by the worker alone.
        served: what is served.
        explain: a row -> why it is labelled so, called by the worker alone; None where nothing can.
        limits: of requests.
        names: further names that a Host header may say.
        token: that a request must bring; None for none.
    """

    label: Callable[[pl.DataFrame], pl.DataFrame]
    served: Served
    explain: Explain | None = None
    limits: Limits = field(default_factory=Limits)
    names: tuple[str, ...] = ()
    token: str | None = None

    def __post_init__(self) -> None:
        self.meters = Meters()
        self.batcher = Batcher(self.label, self.explain, self.limits, self.meters)

    @property
    def app(self) -> Guard:
        """The app, behind its guard."""
        made = FastAPI(
            title=f"Foldwise: {self.served.about['run']}",
            version=self.served.about["versions"]["here"]["foldwise"],
            docs_url=None,  # its page loads scripts from elsewhere
            redoc_url=None,
            lifespan=self._lifespan,
        )
        self._add_paths(made)
        made.add_exception_handler(Refused, _refused)
        made.add_exception_handler(HTTPException, _http)
        made.add_exception_handler(Exception, _failed)
        paths = {route.path for route in made.routes if hasattr(route, "path")}
        return Guard(
            made,
            names=self.names,
            token=self.token,
            open_paths=_OPEN,
            paths=paths,
            meters=self.meters,
        )

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        self.batcher.start()
        yield
        # Every request has been answered by now, or was given up at its deadline.
        await asyncio.to_thread(self.batcher.close)

    def _add_paths(self, app: FastAPI) -> None:
        """Add the paths; what requests and answers look like is said to OpenAPI by hand.

        The columns of a run are its own, so no class can describe a row.
        """
        served, limits = self.served, self.limits
        asks = _operation(rows_schema(served.columns, limits, limits.rows), labels_schema(served))
        app.post("/predict", summary="Label rows", openapi_extra=asks)(self.predict)
        asks = _operation(rows_schema(served.columns, limits, 1), explanation_schema())
        app.post(
            "/explain",
            summary="Why a row is labelled so",
            openapi_extra=asks,
            include_in_schema=self.explain is not None,
        )(self.why)
        app.get("/health", summary="Whether it answers: 200, or 503")(self.health)
        app.get("/health/live", summary="Whether the process runs")(self.live)
        app.get("/metadata", summary="The run that is served")(self.metadata)
        app.get("/metrics", summary="For Prometheus", include_in_schema=False)(self.metrics)
        for path in _PAGE:
            app.get(path, include_in_schema=False)(self.page)

    async def predict(self, request: Request) -> Response:
        """Label the rows of a request, in their order.

        Every column that the model reads has to be named in every row; null says that a cell is
        empty. Other keys of a row don't matter.
        """
        rows = await self._rows(request, self.limits.rows)
        asked = self.batcher.ask(rows)
        labelled = await self._answer(request, asked, self.limits.timeout_s)
        return as_json({"rows": labelled_rows(labelled)})

    async def why(self, request: Request) -> Response:
        """Say which words, columns and members drove the label of one row.

        One row is explained at a time; rows of others are labelled meanwhile.
        """
        row = await self._rows(request, 1)
        if self.explain is None:
            raise Refused(501, f"this server doesn't explain: {self.served.about['unexplained']}")
        asked = self.batcher.ask_why(row)
        return as_json(await self._answer(request, asked, self.limits.explain_s))

    async def health(self) -> Response:
        """Say whether rows are taken in."""
        ready = self.batcher.ready
        return as_json({"live": True, "ready": ready}, 200 if ready else 503)

    async def live(self) -> Response:
        """Say that the process runs."""
        return as_json({"live": True})

    async def metadata(self) -> Response:
        """Say what is served: task, classes, columns, members, scores, versions, limits."""
        return as_json(self.served.about)

    async def metrics(self) -> Response:
        """Return what was counted and timed."""
        return Response(self.meters.text(), media_type=CONTENT_TYPE_LATEST)

    async def page(self, request: Request) -> Response:
        """Return a file of the page that tries the model."""
        name, kind = _PAGE[request.url.path]
        return Response((Path(__file__).parent / name).read_bytes(), media_type=kind)

    async def _rows(self, request: Request, most: int) -> pl.DataFrame:
        body = await _body(request, self.limits)
        return parse_rows(body, self.served.columns, self.limits, most)

    async def _answer(self, request: Request, asked: Asked[Answer], timeout_s: float) -> Answer:
        """Wait for an answer, until the deadline, while the client is there."""
        answer = asyncio.wrap_future(asked.future)
        left = asyncio.create_task(_left(request))
        waiting: set[asyncio.Future[Any]] = {answer, left}
        why = "stopped"
        try:
            done, _ = await asyncio.wait(
                waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            why = "left" if left in done else "late"
        finally:
            left.cancel()
            if not answer.done():
                self.batcher.drop(asked, why)
                answer.cancel()
        if answer in done:
            try:
                return answer.result()
            except FoldwiseError as error:
                raise Refused(422, str(error)) from None
        if left in done:
            raise Refused(_GONE, "the client left")
        raise Refused(504, f"not answered within {timeout_s:g} s; ask for fewer or shorter rows")


async def _body(request: Request, limits: Limits) -> bytes:
    """Read a body of JSON.

    Raises:
        Refused: another kind of content, too large, or too slow.
    """
    kind, _, more = request.headers.get("content-type", "").lower().partition(";")
    if kind.strip() != "application/json" or more.strip().strip('"') not in (
        "",
        "charset=utf-8",
        'charset="utf-8',
    ):
        raise Refused(415, "send JSON in UTF-8, with Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "send the body as it is, without Content-Encoding")
    read, size = [], 0
    try:
        async with asyncio.timeout(limits.body_s):
            async for part in request.stream():
                size += len(part)
                if size <= limits.body_bytes:
                    read.append(part)
                # A client that is still writing doesn't read; one that never ends is cut off.
                elif size > _READ_BEYOND * limits.body_bytes:
                    break
    except TimeoutError:
        raise Refused(408, f"the body didn't arrive within {limits.body_s:g} s") from None
    except ClientDisconnect:
        raise Refused(_GONE, "the client left") from None
    if size > limits.body_bytes:
        raise Refused(413, f"the body has more than {limits.body_bytes} bytes; send fewer rows")
    return b"".join(read)


async def _left(request: Request) -> None:
    """Wait until the client has left; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _operation(asks: dict[str, Any], gives: dict[str, Any]) -> dict[str, Any]:
    """Describe a path that takes rows, for OpenAPI."""
    refused = {"application/json": {"schema": REFUSED_SCHEMA}}
    told = {
        "400": "Not JSON",
        "401": "No token, or a wrong one",
        "403": "From a page of another site",
        "408": "The body was too slow",
        "413": "The body is too large",
        "415": "Not application/json",
        "421": "Another server's name",
        "422": "Fields that can't be taken, by row and column",
        "429": "Full; Retry-After says when to come back",
        "503": "Stopping",
        "504": "Not answered in time",
    }
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": asks}}},
        "responses": {
            "200": {"description": "Done", "content": {"application/json": {"schema": gives}}},
            **{code: {"description": text, "content": refused} for code, text in told.items()},
        },
    }


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return as_json(error.as_json(), error.status, error.headers)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    return as_json({"error": str(error.detail), "fields": []}, error.status_code, headers)


async def _failed(request: Request, error: Exception) -> Response:
    # The traceback is in the server's log: starlette raises it again after this.
    return as_json({"error": "the model failed; the server's log says why", "fields": []}, 500)
