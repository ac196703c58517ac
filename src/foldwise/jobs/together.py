"""One fold, several processes: what each of those does that torchrun or accelerate has started.

The one that leads runs the command. The others parse nothing and print nothing: they wait for its
word, prepare what it has prepared from the run's folder, and train each fold along (of a model in
parts they run step 3b along too). All end when it ends, with its exit code.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from foldwise.hardware.launched import Launch

if TYPE_CHECKING:
    from accelerate import Accelerator

    from foldwise.preparation.prepare import Prepared
    from foldwise.run.folder import RunFolder

Say = Callable[[str], None]
Told = Callable[[Callable[[], None], Say], None]


def take_part(launch: Launch, command: Callable[[], None], told: Told) -> None:
    """Lead the other processes through a command, or follow the one that leads.

    Args:
        launch: which process this is.
        command: what this one runs: `follow`, or what the user has typed in the one that leads.
        told: runs something and says, by what it is given, why that stopped.
    """
    # Who is lost is told in a sentence; torch would add its own stack to it.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from foldwise.hardware import team

    told(lambda: team.join(launch), lambda text: print(text, file=sys.stderr))
    why: list[str] = []

    def say(text: str) -> None:
        why.append(text.partition(": ")[2])
        team.say(text)

    code, ended = 1, False
    try:
        told(command, say)
        code = 0
    except SystemExit as end:
        ended = True
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == 128 + signal.SIGTERM:
            team.say(
                "stopped: ended by signal 15, as a launcher does with all processes when one is "
                "lost; the same command goes on from the last checkpoint"
            )
        raise
    finally:
        team.end(code, why[0] if why else None)
        if ended and launch.rank:
            # It has nothing left to write or say. Taking the interpreter apart beside torch's
            # threads has ended one that followed by SIGABRT once, after all was done.
            sys.stderr.flush()
            os._exit(code)


def follow() -> None:
    """Do what the process that leads says, until it ends."""
    from foldwise.evaluation.validate import validate_along
    from foldwise.hardware import team
    from foldwise.run.folder import RunFolder
    from foldwise.training.fold import train_along

    opened: tuple[Prepared, Accelerator] | None = None
    while "end" not in (word := team.hear()):
        if "run" in word:
            opened = _open(RunFolder(Path(word["run"])), shard=word["shard"])
        else:
            assert opened is not None
            prepared, accelerator = opened
            ((step, number),) = word.items()
            along = {"train": train_along, "validate": validate_along}[step]
            along(prepared, number, accelerator)
    sys.exit(word["end"])


def _open(run: RunFolder, *, shard: bool) -> tuple[Prepared, Accelerator]:
    from foldwise.hardware.device import build_accelerator, set_deterministic
    from foldwise.preparation.build import build_task, open_run
    from foldwise.preparation.prepare import encode_rows, prepare
    from foldwise.preparation.provenance import check_continues

    config, code = open_run(run, trust_code=True)  # our own: the lead has just written or read it
    placed = config.training.model_copy(update={"shard": shard})  # of this call, not of the run
    config = config.model_copy(update={"training": placed})
    set_deterministic(config.run.deterministic, config.training.device)
    task = build_task(config, code, stores=run.token_stores, online=True)
    prepared = prepare(config, code, run, task, online=True, tried=True)  # by the lead
    check_continues(prepared)
    return encode_rows(prepared), build_accelerator(config.training)
