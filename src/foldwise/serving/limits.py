"""What a server allows: sizes, numbers and times, and the one exception that says it was too much.

Every bound is checked before the work that it bounds is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_TOLD = 10  # faults of a request that are named


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes:
        body_bytes: of a request.
        rows: of a request to predict.
        characters: of a text.
        queued_rows: that wait to be labelled; beyond them a request is told to come back.
        timeout_s: from a request's body to its labels.
        explain_s: from a request's body to its explanation.
        body_s: for a body to arrive.
        batch_rows: labelled together; a request with more is a batch of its own.
        wait_s: for company, from when a request came; none while the model is at work anyway.
        connections: open at once.
    """

    body_bytes: int = 2 * 2**20
    rows: int = 100
    characters: int = 200_000
    queued_rows: int = 1_000
    timeout_s: float = 30.0
    explain_s: float = 120.0
    body_s: float = 10.0
    batch_rows: int = 64
    wait_s: float = 0.002
    connections: int = 1_000


@dataclass(frozen=True)
class Fault:
    """What is wrong with one field of a request.

    Attributes:
        row: its place in `rows`, from 0; None for what isn't in a row.
        column: its name; None for a whole row.
        message: what it must be.
    """

    row: int | None
    column: str | None
    message: str


class Refused(Exception):
    """A request that isn't answered, with the status and the reason that go back.

    Args:
        status: of HTTP.
        message: what is wrong, and what to do about it.
        faults: the fields at fault; the first of them are told.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        faults: Sequence[Fault] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.faults = faults
        self.headers = headers or {}

    def as_json(self) -> dict[str, Any]:
        """Return the body of the answer."""
        fields = [
            {"row": fault.row, "column": fault.column, "message": fault.message}
            for fault in self.faults[:MOST_TOLD]
        ]
        return {"error": self.message, "fields": fields}
