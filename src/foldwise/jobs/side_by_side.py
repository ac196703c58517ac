"""Folds side by side on one machine: a config in, its run out, made by several processes.

Each process is `foldwise train --folds` with its share of the folds, threads and GPUs, so a run is
the same files whether one process made it or several: byte for byte, where a process has as many
threads. The first makes the run folder, the others join in, and whichever ends last sums up. One
that is killed is started again and goes on from its fold's last checkpoint.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.run.folder import RunFolder

RESTARTS = 2  # of a process that is killed
_LOOK_S = 0.2
# What holds the threads of torch, polars and tokenizers.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")


@dataclass
class _Job:
    """One process and its folds."""

    command: list[str]
    environment: dict[str, str]
    tell: Callable[[str], None]
    restarts: int = 0
    process: subprocess.Popen[str] | None = None
    said: list[str] = field(default_factory=list)
    reader: threading.Thread | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            stdout=subprocess.DEVNULL,  # the table of scores is printed once, at the end
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self.reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self.reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            line = line.rstrip("\n")
            if line.startswith(("error: ", "stopped: ")):
                self.said.append(line)
            else:
                self.tell(line)

    def ended(self) -> int | None:
        """Return the exit code, once all it said has been read; None while it runs."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        if self.reader is not None:
            self.reader.join()
        return code

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    @property
    def reason(self) -> str:
        """What it last said, without the word in front."""
        return self.said[-1].partition(": ")[2] if self.said else "it said nothing"


def train_side_by_side(
    command: Sequence[str],
    run: RunFolder,
    folds: Sequence[int],
    jobs: int,
    tell: Callable[[str], None],
    gpus: Sequence[str] = (),
) -> None:
    """Train a run's folds in several processes.

    Args:
        command: the arguments of `foldwise` that train the config, without --folds.
        run: the run that they make.
        folds: those to do.
        jobs: processes at a time, at least 2.
        tell: takes each line of progress.
        gpus: names for CUDA_VISIBLE_DEVICES, dealt to the processes in turn; none: as it is.

    Raises:
        FoldwiseError: bad input.
        RunInterrupted: a fold stopped, or a process was killed more than `RESTARTS` times.
    """
    shares = [list(folds[number::jobs]) for number in range(min(jobs, len(folds)))]
    started = [
        _Job(_foldwise(command, share), _environment(len(shares), number, gpus), tell)
        for number, share in enumerate(shares)
    ]
    running: list[_Job] = []
    stopped: list[str] = []
    try:
        for job in started:
            job.start()
            running.append(job)
            # The first makes the folder: what is wrong with the input is then said once.
            while not run.manifest.exists() and job.ended() is None:
                time.sleep(_LOOK_S)
            if job.ended() == 2:
                break
        while running:
            time.sleep(_LOOK_S)
            for job in list(running):
                if (code := job.ended()) is not None:
                    running.remove(job)
                    stopped += _after(job, code, running)
    finally:
        for job in running:
            job.stop()
        for job in running:
            if job.process is not None:
                job.process.wait()
    if stopped:
        raise RunInterrupted("; ".join(dict.fromkeys(stopped)))


def shares_of(cores: int, jobs: int, asked: str | None) -> int:
    """Return the threads of each process: its share of the cores, or of OMP_NUM_THREADS."""
    whole = int(asked) if asked and asked.isdigit() and int(asked) else cores
    return max(1, whole // jobs)


def _after(job: _Job, code: int, running: list[_Job]) -> list[str]:
    # What a process's end means: nothing, a stop to tell once all have ended, or the end of all.
    if code == 0:
        return []
    if code == 2:
        raise FoldwiseError(job.reason)
    if code < 0 and job.restarts < RESTARTS:
        job.restarts += 1
        job.tell(f"a process was ended by signal {-code}; it goes on from its last checkpoint")
        job.start()
        running.append(job)
        return []
    ended = job.reason if code == 1 else f"a process ended with code {code}: {job.reason}"
    return [ended]


def _foldwise(command: Sequence[str], share: Sequence[int]) -> list[str]:
    main = [sys.executable, "-c", "from foldwise.cli import main; main()"]
    return [*main, *command, "--folds", ",".join(map(str, share))]


def _environment(jobs: int, number: int, gpus: Sequence[str]) -> dict[str, str]:
    environment = dict(os.environ)
    asked = environment.get("OMP_NUM_THREADS")
    threads = shares_of(len(os.sched_getaffinity(0)), jobs, asked)
    environment |= dict.fromkeys(_THREADS, str(threads))
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return environment


def gpus_here() -> list[str]:
    """Return names for CUDA_VISIBLE_DEVICES of the GPUs that this process may use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    if not Path("/dev/nvidia0").exists():  # torch takes seconds to say the same
        return []
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
