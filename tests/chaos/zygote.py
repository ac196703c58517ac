"""A process that has imported everything, and forks a child for each command it is asked to run.

In: a JSON line a command on stdin, or of two, the second given while the first is stopped. Out: a
JSON line with their ends on stdout. Importing takes most of
a small command's time; a child has it behind it, yet is a process of its own, that signals reach
and kill for real.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import pkgutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

# What the commands import only when they get there.
LATE = (
    "altair",
    "cleanlab.filter",
    "safetensors.torch",
    "sklearn.linear_model",
    "sklearn.feature_extraction.text",
    "torch.optim.adamw",
    "transformers.models.bert.modeling_bert",
    "vl_convert",
)
# How long a process that has stopped itself stays so: alone, and while another one runs.
SHORT_S, LONG_S = 0.2, 3.0


def serve() -> None:
    """Import, say so, then run one command a line until stdin ends."""
    import foldwise

    for module in pkgutil.walk_packages(foldwise.__path__, "foldwise."):
        if module.name != "foldwise.__main__":
            importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what lies here stays shared with the children
    answer({"ready": os.getpid()})
    for line in sys.stdin:
        request = json.loads(line)
        answer({"codes": play(request["calls"], request["patience_s"])})


def answer(value: dict[str, Any]) -> None:
    """Write a JSON line."""
    print(json.dumps(value), flush=True)


def play(calls: list[dict[str, Any]], patience_s: float) -> list[int | None]:
    """Run a call, and another one while the first has stopped itself; wait for their ends.

    The first goes on once the second has ended, or soon after where that waits for the first.

    Returns:
        Exit codes: -n where signal n killed it; None where it hung, or never began.
    """
    codes: list[int | None] = [None] * len(calls)
    running = {start(calls[0]): 0}
    first, stopped_at = next(iter(running)), None
    deadline = time.monotonic() + patience_s
    while running and time.monotonic() < deadline:
        found, status = os.waitpid(-1, os.WUNTRACED | os.WNOHANG)
        if found and os.WIFSTOPPED(status):
            stopped_at = time.monotonic()
            if len(calls) > 1:
                running[start(calls[1])] = 1
        elif found:
            codes[running.pop(found)] = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.002)
        paused_s = time.monotonic() - stopped_at if stopped_at else 0
        if paused_s > (SHORT_S if len(running) == 1 else LONG_S):
            os.kill(first, signal.SIGCONT)
            stopped_at = None
    for child in running:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return codes


def start(call: dict[str, Any]) -> int:
    """Fork the process of a call; return its number."""
    child = os.fork()
    if child == 0:
        run(call)
    return child


def run(call: dict[str, Any]) -> None:
    """Be the command's process: never returns."""
    code = 1
    try:
        with open(call["words"], "w", encoding="utf-8") as words:
            os.dup2(words.fileno(), 1)
            os.dup2(words.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        code = command(call)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)  # whatever happens, no second zygote comes out of here


def command(call: dict[str, Any]) -> int:
    """Give the command under its fate; return its exit code."""
    from chaos.fate import Fate
    from chaos.faults import watched
    from foldwise import cli

    os.chdir(call["root"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has processes ignore
    sys.argv = ["foldwise", *call["given"]]
    try:
        with ExitStack() as stack:
            fate = Fate(call["fate"], call["trace"])
            stack.enter_context(watched(Path(call["root"]), fate.before, fate.after))
            stack.enter_context(fate.poisoned())
            stack.enter_context(remembered(Path(call["drawn"])))
            cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it has ended; what comes now comes too late
    return 0


@contextmanager
def remembered(folder: Path) -> Iterator[None]:
    """Draw each chart once: the same spec gives the same bytes, and takes longer than all else."""
    import vl_convert

    def once(name: str) -> Any:
        real = getattr(vl_convert, name)

        def draw(*args: Any, **named: Any) -> Any:
            key = hashlib.sha256(json.dumps([name, args, named]).encode()).hexdigest()
            path = folder / key
            if not path.exists():
                drawn = real(*args, **named)
                whole = path.with_suffix(f".{os.getpid()}")
                whole.write_bytes(drawn.encode() if isinstance(drawn, str) else drawn)
                whole.rename(path)
            content = path.read_bytes()
            return content if name.endswith("png") else content.decode()

        return draw

    names = ("javascript_bundle", "vegalite_to_png")
    with mock.patch.multiple(vl_convert, **{name: once(name) for name in names}):
        yield


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    serve()
