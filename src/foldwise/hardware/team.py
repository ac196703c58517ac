"""The processes that train a fold together: how they meet, what passes between them, how they end.

One leads. It alone reads the command, writes, shows and decides; the others hear from it what to
do. All that is said goes over the CPU (gloo), so that who waits for hours takes nothing of a GPU;
gradients go over NCCL where they lie on one. A process that is alone is a team of one, and every
function here does nothing.

A process that ends is noticed by the others as a connection that breaks. Why it ended stands in the
store that the launcher keeps, and who comes first tells it, so that it is told once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.hardware.launched import Launch

_MEETING = timedelta(minutes=10)  # until all have started
_WAITING = timedelta(days=30)  # while the lead reads a table, or fits members
_LEAD_FIRST = timedelta(seconds=3)  # what it says of its own end is the better word
_LEAVING = 10.0  # seconds for the others to leave, after all is done
_AT_ONCE = 2**28  # bytes of a tensor that is sent
_WHY, _TOLD, _LEFT = "why", "told", "left"


@dataclass
class _Team:
    launch: Launch
    store: Any
    listening: bool = True  # whether the others wait for a word of the lead


_joined: list[_Team] = []  # one at most: torch has one default group a process


def join(launch: Launch) -> None:
    """Meet the other processes that the launcher has started.

    Raises:
        FoldwiseError: they don't come.
    """
    cuda = torch.cuda.is_available() and launch.local_rank < torch.cuda.device_count()
    if cuda:
        torch.cuda.set_device(launch.local_rank)
    try:
        store, rank, size = next(rendezvous("env://", timeout=_MEETING))
        store = PrefixStore("foldwise", store)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=_WAITING,
        )
    except (RuntimeError, ValueError) as error:
        raise FoldwiseError(
            f"process {launch.rank} of {launch.size} doesn't find the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}: {error}"
        ) from None
    _joined.append(_Team(launch, PrefixStore("end", store)))


def size() -> int:
    """Return the number of processes that train together."""
    return _joined[0].launch.size if _joined else 1


def leads() -> bool:
    """Say whether this process leads."""
    return not _joined or _joined[0].launch.rank == 0


def mine() -> slice:
    """Return which of some pieces are this process's: every n-th, or all."""
    return slice(_joined[0].launch.rank, None, size()) if _joined else slice(None)


def tell(word: Any) -> None:
    """Tell the others something, a JSON value; of the lead."""
    if not _joined:
        return
    text = torch.frombuffer(bytearray(json.dumps(word, default=float).encode()), dtype=torch.uint8)
    with connected():
        distributed.broadcast(torch.tensor([len(text)]), 0)
        distributed.broadcast(text, 0)


def hear() -> Any:
    """Wait for what the lead tells; of the others."""
    length = torch.zeros(1, dtype=torch.int64)
    with connected():
        distributed.broadcast(length, 0)
        text = torch.empty(int(length), dtype=torch.uint8)
        distributed.broadcast(text, 0)
    return json.loads(text.numpy().tobytes())


def agreed(word: Any) -> Any:
    """Return the lead's word on something that all have computed; all call it."""
    if not leads():
        return hear()
    tell(word)
    return word


@contextmanager
def called(word: Any) -> Iterator[None]:
    """Have the others do along what the block does; of the lead."""
    tell(word)
    _listening(False)
    yield
    _listening(True)


def add_up(tensor: Tensor) -> None:
    """Replace a tensor by its sum over the processes; all call it, in one order."""
    if _joined:
        with connected():
            distributed.all_reduce(tensor)


def share(tensor: Tensor) -> None:
    """Replace a tensor by the lead's; all call it, in one order.

    Args:
        tensor: of any type, on a device that all have.
    """
    if not _joined or not tensor.numel():
        return
    told = tensor.detach().contiguous()
    with connected():
        for piece in torch.split(told.view(-1).view(torch.uint8), _AT_ONCE):
            distributed.broadcast(piece, 0)
    if told.data_ptr() != tensor.data_ptr():
        tensor.detach().copy_(told)


def filled(rows: np.ndarray) -> np.ndarray:
    """Put together rows that each process has in part, with zeros for the others'.

    Args:
        rows: of any type, (n, ...).
    """
    if not _joined:
        return rows
    # As bytes: next to zeros they add up to themselves, to the last bit.
    told = torch.from_numpy(np.ascontiguousarray(rows).reshape(-1).view(np.uint8))
    add_up(told)
    return told.numpy().view(rows.dtype).reshape(rows.shape)


@contextmanager
def connected() -> Iterator[None]:
    """Say of a connection that breaks what it means.

    Raises:
        FoldwiseError: another process has ended on input that it can't take.
        RunInterrupted: one has stopped, or is gone without a word.
    """
    try:
        yield
    except RuntimeError as error:
        # The launcher now ends all that are left: not before it is said why.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _why_lost() from error


@contextmanager
def computing() -> Iterator[None]:
    """As `connected`, around work that exchanges something on the way: layers in parts."""
    try:
        yield
    except RuntimeError as error:
        if not _joined or not (isinstance(error, distributed.DistError) or "gloo" in str(error)):
            raise
        with connected():
            raise


def say(text: str) -> None:
    """Print on stderr why this process ends, unless another has said so already."""
    if not _joined or _is_first():
        print(text, file=sys.stderr, flush=True)


def end(code: int, why: str | None) -> None:
    """Let the others know that this process ends, and how.

    Args:
        code: its exit code.
        why: what it has to say about it.
    """
    (team,) = _joined
    with suppress(RuntimeError, FoldwiseError, RunInterrupted):  # who should hear it has gone too
        if code:
            team.store.compare_set(_WHY, "", json.dumps({"code": code, "why": why}))
        if leads() and team.listening:
            tell({"end": code})
    if team.listening:
        distributed.destroy_process_group()
        with suppress(RuntimeError):
            team.store.add(_LEFT, 1)
            # The lead may keep the store itself: it goes last, so that nobody's connection breaks.
            until = time.monotonic() + _LEAVING
            while leads() and team.store.add(_LEFT, 0) < size() and time.monotonic() < until:
                time.sleep(0.02)
    _joined.clear()


def _listening(so: bool) -> None:
    for team in _joined:
        team.listening = so


def _why_lost() -> Exception:
    rest = "the same command goes on from the last checkpoint, with any number of processes"
    store, how = _joined[0].store, "is gone without a word"
    with suppress(RuntimeError):  # the store has gone with the process that kept it
        if store.check([_WHY]):
            ended = json.loads(store.get(_WHY))
            if ended["why"] is not None:
                return (FoldwiseError if ended["code"] == 2 else RunInterrupted)(ended["why"])
            signalled = ended["code"] > 128
            how = f"was ended by signal {ended['code'] - 128}" if signalled else "has failed"
    return RunInterrupted(f"one of the {size()} processes {how}; {rest}")


def _is_first() -> bool:
    team = _joined[0]
    try:
        if team.launch.rank:
            with suppress(RuntimeError):  # nothing is told yet
                team.store.wait([_TOLD], _LEAD_FIRST)
        return bool(team.store.add(_TOLD, 1) == 1)
    except RuntimeError:  # the store went with the lead: one of those that are left speaks
        return team.launch.rank == 1
