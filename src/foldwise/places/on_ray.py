"""The machines of a Ray as a place: each call an actor with its share of cores and GPUs.

`ray` is a Ray of this machine's own, started and ended with the command; `ray://host:6379` one that
is there, by the address that `ray start --head` prints, and `ray://auto` the one that this machine
belongs to. The command is given on one of its machines. All of them share the disk with the config
and the runs, under the same paths: files are the interface here too, and what goes through Ray is
a call's arguments and the lines that it prints.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.places.place import LOST, THREADS, Call
from foldwise.places.ray_node import Expected, Worker, expected, look
from foldwise.run.files import sha256

_CONNECT_S = 5.0
_LOOK_S = 60.0  # a machine's first Python process takes seconds
_TELL_S = 60.0
_NO_ROOM_S = 300.0  # without a machine that could ever take a call
_STOP_S = 20.0
_STORE_BYTES = 100 * 2**20  # nothing large goes through it
_LONGEST_TEMPORARY = 38  # of 107 characters that a socket's path may have, Ray's own take 65


class RayPlace:
    """The machines of a Ray.

    Args:
        wanted: what must be the same on each.
        jobs: calls at a time, where there is room for so many; None: one a GPU or machine.
        threads: of each call; None for an even share of the machines' cores.
        gpu: whether a call takes a GPU, where there are any.
    """

    def __init__(self, wanted: Expected, jobs: int | None, threads: int | None, gpu: bool) -> None:
        import ray

        self.wanted = wanted
        machines = _machines(ray)
        self.gpus = 1 if gpu and any(gpus for _, gpus in machines) else 0
        self.jobs = jobs or sum(g if self.gpus else c > 0 for c, g in machines)
        self.threads = threads or share_of(machines, self.jobs, self.gpus)
        if not slots(machines, self.threads, self.gpus):
            largest = max((cores for cores, _ in machines), default=0)
            asked = f"{self.threads} core{'s' * (self.threads > 1)} (OMP_NUM_THREADS)"
            raise FoldwiseError(
                f"a call takes {asked if threads else 'a core'}, and the largest machine of the "
                f"Ray has {largest}: add a machine"
                + (", or lower OMP_NUM_THREADS" if threads and largest else "")
            )
        self._worker = self.actor(Worker, 2)  # that it can be told to stop while it is followed
        self._looked, self._room = 0.0, 1

    @property
    def room(self) -> int:
        """How many calls at a time: as the machines come and go."""
        import ray

        if time.monotonic() - self._looked > _CONNECT_S:
            self._room = max(1, min(self.jobs, slots(_machines(ray), self.threads, self.gpus)))
            self._looked = time.monotonic()
        return self._room

    def start(self, call: Call) -> RayJob:
        """Start a call on whichever machine has room."""
        settings = dict.fromkeys(THREADS, str(self.threads))
        actor = self._worker.remote(list(call.arguments), call.whole, self.wanted, settings)
        return RayJob(actor, call, self.check_room)

    def actor(self, kind: type, threads: int = 1) -> Any:
        """Return a class as what makes actors of it, with the share of a call.

        Args:
            kind: the class.
            threads: that answer at a time.
        """
        import ray

        return ray.remote(kind).options(
            num_cpus=self.threads,
            num_gpus=self.gpus,
            max_restarts=0,
            max_concurrency=threads,
            scheduling_strategy="SPREAD",
        )

    def check_room(self, since: float) -> None:
        """Raise RunInterrupted where what waits since a moment can't begin on any machine."""
        import ray

        lasting = time.monotonic() - since > _NO_ROOM_S
        if lasting and not slots(_machines(ray), self.threads, self.gpus):
            raise RunInterrupted("no machine of the Ray is left that could take a call")


class RayJob:
    """A call at work on a machine of a Ray.

    Args:
        actor: what holds it.
        call: what it does.
        check_room: takes since when it waits.
    """

    def __init__(self, actor: Any, call: Call, check_room: Callable[[float], None]) -> None:
        self.actor, self.call, self.check_room = actor, call, check_room
        self.seen = 0
        self.code: int | None = None
        self.began = self.told = time.monotonic()
        self.at_work = False
        self.answer = actor.follow.remote(0)

    def ended(self) -> int | None:
        """Return the exit code, once all it said has been told; None while it runs."""
        import ray

        if self.code is None and ray.wait([self.answer], timeout=0)[0]:
            self.code = self._follow(ray)
            if self.code is not None:
                ray.kill(self.actor)
        elif not self.at_work:
            self._wait_for_room()
        return self.code

    def stop(self) -> None:
        """Ask it to end; one that hasn't begun is taken back."""
        import ray

        if not self.at_work:
            ray.kill(self.actor)
        elif self.code is None:
            self.actor.stop.remote()

    def wait(self) -> None:
        """Wait for its end; one that doesn't come to it is killed."""
        import ray

        until = time.monotonic() + _STOP_S
        while self.ended() is None:
            if time.monotonic() > until:
                ray.kill(self.actor)
                return
            time.sleep(0.1)

    def _follow(self, ray: Any) -> int | None:
        lines: list[str] = []
        code: int | None = None
        try:
            lines, code = ray.get(self.answer)
        except ray.exceptions.ActorUnavailableError:
            pass  # its machine may be gone, or be busy: the next answer tells
        except ray.exceptions.RayActorError as error:
            lines, code = [f"lost: {first_line(error)}"], LOST
        except ray.exceptions.RayError as error:
            raise FoldwiseError(f"Ray: {first_line(error)}") from error
        self.at_work = True
        for line in lines:
            self.call.tell(line)
        if code is None:
            self.seen += len(lines)
            self.answer = self.actor.follow.remote(self.seen)
        return code

    def _wait_for_room(self) -> None:
        now = time.monotonic()
        if now - self.told < _TELL_S:
            return
        self.told = now
        self.check_room(self.began)
        self.call.tell(f"waits for room in the Ray since {now - self.began:.0f} s")


@contextmanager
def ray_place(
    where: str, jobs: int | None, gpu: bool, shared: Sequence[Path], files: Sequence[Path] = ()
) -> Iterator[RayPlace]:
    """Have a Ray's machines as a place while the block runs.

    Args:
        where: ray, or ray:// and an address.
        jobs: calls at a time, at most; None: one a GPU or machine.
        gpu: whether a call takes a GPU, where there are any.
        shared: folders that all machines must see; they are made where they aren't there.
        files: that they must see too.

    Raises:
        FoldwiseError: there is no such Ray, none of its machines has room for a call, or one of
            them isn't like this one.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(asked) if asked.isdigit() and int(asked) else None
    with connected(where) as ray, ExitStack() as stack:
        tokens = [stack.enter_context(_token(folder)) for folder in shared]
        seen = {str(path.resolve()): sha256(path) for path in (*files, *tokens)}
        wanted = expected(seen)
        place = RayPlace(wanted, jobs, threads, gpu)
        _check_machines(ray, wanted)
        yield place


@contextmanager
def connected(where: str) -> Iterator[Any]:
    """Be connected to a Ray while the block runs.

    Yields:
        The package.

    Raises:
        FoldwiseError: the package or the Ray isn't there.
    """
    address = where.partition("://")[2]
    # Nothing is reported to anyone, and the answer to a wrong address takes seconds, not minutes.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    for name, value in (
        ("RAY_py_gcs_connect_timeout_s", "10"),
        ("RAY_gcs_server_request_timeout_seconds", "10"),
    ):
        os.environ.setdefault(name, value)
    try:
        if not address:
            _keep_to_itself(where)
        import ray
    except ModuleNotFoundError as error:
        raise FoldwiseError(
            f"--on {where} needs the package {error.name}: pip install 'foldwise[ray]'"
        ) from None
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    own = None if address else tempfile.mkdtemp(prefix="fw-ray-", dir=_short_temporary())
    try:
        _connect(ray, where, address, own)
        # Ray prints the last words of a machine that is lost, on stdout, where results belong, and
        # has no option against it. That it is lost is told by what was at work there.
        ray._private.worker.print_to_stdstream = lambda *words, **keys: None
        for number, handler in handlers.items():  # Ray has put its own in their place
            signal.signal(number, handler)
        yield ray
    finally:
        ray.shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)


def _keep_to_itself(where: str) -> None:
    # A Ray listens on all addresses of its machine, and whoever reaches it has it run anything:
    # this one answers to a token that it alone has. Ray reads it once, as it is imported.
    if "ray" not in sys.modules:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    elif sys.modules["ray"] is not None and os.environ.get("RAY_AUTH_MODE") != "token":
        raise FoldwiseError(
            f"--on {where}: this process has loaded Ray before, so a Ray of its own couldn't be "
            "kept from others; give the command in a new process"
        )


def share_of(machines: Sequence[tuple[int, int]], jobs: int, gpus: int) -> int:
    """Return the cores of each call: as many as leave room for all, at least 1.

    Args:
        machines: cores and GPUs of each.
        jobs: calls at a time.
        gpus: that each takes.
    """
    most = min(jobs, slots(machines, 1, gpus))
    cores = range(1, max((cores for cores, _ in machines), default=1) + 1)
    return max((n for n in cores if slots(machines, n, gpus) >= most), default=1)


def slots(machines: Sequence[tuple[int, int]], threads: int, gpus: int) -> int:
    """Return how many calls of so many cores and GPUs have room at a time."""
    return sum(min(c // threads, g // gpus) if gpus else c // threads for c, g in machines)


def first_line(error: BaseException) -> str:
    """Return what an error of Ray's says, without what it says around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1 if "Traceback" in str(error) else 0] if lines else type(error).__name__


def _machines(ray: Any) -> list[tuple[int, int]]:
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in alive]


def _connect(ray: Any, where: str, address: str, own: str | None) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if own is not None:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                _temp_dir=os.path.join(own, "r"),  # which Ray opens to all of the machine
                **quiet,
            )
            return
        if address != "auto":
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), _CONNECT_S).close()
            # Answers within seconds; ray.init asks whatever listens there for minutes.
            ray._raylet.GcsClient(address=address)
        ray.init(address=address, **quiet)
    except Exception as error:
        there = (
            ""
            if own is not None
            else (
                ": give the address that `ray start --head` prints (its port is 6379, not the "
                "Ray client's), on a machine that belongs to it"
            )
        )
        raise FoldwiseError(f"--on {where}: {first_line(error)}{there}") from error


def _check_machines(ray: Any, wanted: Expected) -> None:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = {
        node["NodeManagerHostname"] + " " + node["NodeManagerAddress"]: ray.remote(look)
        .options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )
        .remote(wanted)
        for node in ray.nodes()
        if node["Alive"]
    }
    for name, answer in asked.items():
        try:
            problem = ray.get(answer, timeout=_LOOK_S)
        except ray.exceptions.RayError as error:
            problem = f"can't be used: {first_line(error)}"
        if problem:
            raise FoldwiseError(f"the machine {name} {problem}")


@contextmanager
def _token(folder: Path) -> Iterator[Path]:
    # What no other disk can hold by chance; of bad input nothing is left, no folder either.
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".shared-", dir=folder)
    try:
        os.write(descriptor, os.urandom(16))
        os.close(descriptor)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
        with suppress(OSError):  # something lies there by now
            for path in made:
                path.rmdir()


def _short_temporary() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) <= _LONGEST_TEMPORARY else "/tmp"
