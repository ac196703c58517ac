"""How a command tells what it does: the one writer behind `--quiet` and `--json`.

In: tables, lines and a result. Out: on stdout what was asked for, on stderr what goes on meanwhile.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foldwise.run.files import to_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


@dataclass(frozen=True)
class Output:
    """What a command prints.

    Attributes:
        quiet: nothing but the last line; errors and warnings still come.
        as_json: the result as one JSON object on stdout, everything else on stderr.
    """

    quiet: bool = False
    as_json: bool = False

    @property
    def progress(self) -> Console | None:
        """Where progress is shown; None for silence."""
        from foldwise.commands.quiet import console

        return None if self.quiet else console(stderr=True)

    @property
    def page(self) -> Console | None:
        """Where tables are shown; None where nobody is to see them."""
        from foldwise.commands.quiet import console

        return None if self.quiet or self.as_json else console()

    def show(self, *parts: RenderableType) -> None:
        """Print tables and texts that a person reads."""
        if (page := self.page) is not None:
            for part in parts:
                page.print(part, highlight=False)

    def say(self, line: str) -> None:
        """Print a line on the way to the result."""
        if not self.quiet:
            print(line, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def note(self, line: str) -> None:
        """Print on stderr what is worth knowing about the input."""
        if not self.quiet:
            print(f"note: {line}", file=sys.stderr)

    def end(self, line: str, result: dict[str, Any]) -> None:
        """Print the last line, or the result as JSON; numbers that aren't finite are null.

        Args:
            line: says where the result lies, or what it is.
            result: the same for a program.
        """
        print(to_json(result) if self.as_json else f"{line}\n", end="")


def output(quiet: bool, as_json: bool) -> Output:
    """Return the writer of a command as it was given, and hold rich's own console to it too."""
    import rich

    # Some progress has no console handed to it: long tables that are tokenized.
    rich.reconfigure(stderr=True, quiet=quiet)
    return Output(quiet, as_json)


PLAIN = Output()
