"""The command line: parse, call one command, print. Imports no torch."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from foldwise.lines import keeping, making, using

EXIT_CODES = (
    "Exit codes: 0 done; 1 stopped, the same command goes on; 2 bad input, nothing lost; "
    "128 + n ended by signal n."
)
_AGAIN_S = 0.02  # until a signal that was lost is sent again

app = typer.Typer(
    name="foldwise",
    help="Cross-validated fine-tuning of language models on tables, from one YAML config.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for group in (making, using, keeping):
    app.add_typer(group.app)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"foldwise {version('foldwise')}")
        raise typer.Exit


@app.callback()
def foldwise(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it and exit."),
    ] = False,
) -> None:
    """Cross-validated fine-tuning of language models on tables, from one YAML config."""
    from foldwise.hardware.launched import check_launch

    check_launch(context.invoked_subcommand)


def main() -> None:
    """Run the command line; problems with the input end in one message and exit code 2."""
    from foldwise.hardware.launched import launched

    # A terminated run dies of its signal: the last checkpoint stands, the same command goes on.
    signal.signal(signal.SIGTERM, _stopped)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a background job ignores it
        signal.signal(signal.SIGINT, _stopped)
    launch = launched()
    with _none_lost():
        if launch.size == 1:
            _told(app, lambda text: print(text, file=sys.stderr))
        else:
            from foldwise.jobs.together import take_part

            take_part(launch, app if launch.rank == 0 else _follow, _told)


def _follow() -> None:
    from foldwise.commands.quiet import quiet_libraries
    from foldwise.jobs.together import follow

    quiet_libraries(online=True)
    follow()


def _told(command: Callable[[], None], say: Callable[[str], None]) -> None:
    # Whatever stops a command is one message and an exit code.
    from foldwise.errors import FoldwiseError, RunInterrupted
    from foldwise.run.space import is_broken, is_full, no_space

    try:
        command()
    except FoldwiseError as error:
        say(f"error: {error}")
        sys.exit(2)
    except RunInterrupted as error:
        say(f"stopped: {error}")
        sys.exit(1)
    except SystemExit as end:
        if end.code == 128 + signal.SIGINT:  # what Typer makes of Ctrl-C
            say("stopped: give the same command again to go on")
        raise
    except Exception as error:
        if is_broken(error):
            say(f"stopped: the disk fails ({error}); once it works, give the same command again")
            sys.exit(1)
        if not is_full(error):
            raise
        # Of a file that a library writes: our own are a RunInterrupted by now.
        named = getattr(error, "filename", None)
        told = no_space(Path(named)) if named else f"{error}; free some and give the command again"
        say(f"stopped: {told}")
        sys.exit(1)


def _stopped(number: int, frame: object) -> None:
    # The second one ends the process at once, wherever it is: any moment is safe to die at.
    signal.signal(number, signal.SIG_DFL)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


@contextmanager
def _none_lost() -> Iterator[None]:
    # What is raised within a finalizer or a callback of the garbage collection ends there: Python
    # prints it and goes on. Where it was a signal's, that is sent again, for when they are through.
    before = sys.unraisablehook

    def told(lost: Any) -> None:
        if isinstance(lost.exc_value, KeyboardInterrupt):
            number = signal.SIGINT
        elif getattr(lost.exc_value, "code", None) == 128 + signal.SIGTERM:
            number = signal.SIGTERM
        else:
            before(lost)
            return
        signal.signal(number, _stopped)
        ours = threading.main_thread().ident
        again = threading.Timer(_AGAIN_S, signal.pthread_kill, (ours, number))
        again.daemon = True
        again.start()

    sys.unraisablehook = told
    try:
        yield
    finally:
        sys.unraisablehook = before


if __name__ == "__main__":
    main()
