"""Where calls are at work, as a person names it: `--on`, `run.on` and `--jobs` in, a place out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foldwise.config.schema import PLACE, Config
from foldwise.errors import FoldwiseError
from foldwise.places.place import Place
from foldwise.places.processes import Here, gpus_here
from foldwise.storage.places import folder_of
from foldwise.storage.urls import is_url

if TYPE_CHECKING:
    from foldwise.places.ray_node import Make
    from foldwise.places.ray_pool import Pool


@dataclass(frozen=True)
class Where:
    """Where calls are to be at work.

    Attributes:
        on: ray, or ray:// and an address; None for this machine.
        jobs: calls at a time; None: one here, and on a Ray as many as there is room for.
    """

    on: str | None = None
    jobs: int | None = None

    def __post_init__(self) -> None:
        if self.on is not None and not PLACE.fullmatch(self.on):
            raise FoldwiseError(
                f"--on {self.on}: must be ray (of this machine's own), ray://auto (the one it "
                "belongs to) or ray://host:port"
            )

    @property
    def elsewhere(self) -> bool:
        """Whether there are calls at all, instead of the work in this process."""
        return self.on is not None or (self.jobs or 1) > 1

    def of(self, configs: Sequence[Config]) -> Where:
        """Return the same, or where configs say, if nobody else does.

        Raises:
            FoldwiseError: they name several places.
        """
        named = {config.run.on for config in configs}
        if self.on is not None or named == {None}:
            return self
        if len(named) > 1:
            told = ", ".join(sorted(str(name) for name in named))
            raise FoldwiseError(f"run.on: the configs name several places ({told}): give --on")
        return Where(named.pop(), self.jobs)

    @contextmanager
    def opened(
        self, configs: Sequence[Config], calls: int, files: Sequence[Path]
    ) -> Iterator[Place]:
        """Have the place while the block runs.

        Args:
            configs: of the calls.
            calls: how many there will be.
            files: that they read, and every machine must see.

        Raises:
            FoldwiseError: it isn't there, or has no room; or a run of several machines lies in a
                store.
        """
        if self.on is None:
            room = max(1, min(self.jobs or 1, calls))
            yield Here(room, gpus_here() if room > 1 else ())
            return
        for config in configs:
            if self.on != "ray" and is_url(config.run.dir):
                raise FoldwiseError(
                    f"run.dir {config.run.dir}: the machines of a Ray work in one folder, and of a "
                    "run in a store each would have a copy of its own: give a folder on a disk "
                    "that they share, or stay on this machine (--on ray, --jobs)"
                )
        from foldwise.places.on_ray import ray_place

        shared = sorted({folder_of(config.run.dir) for config in configs})
        gpu = any(config.training.device not in ("cpu", "mps") for config in configs)
        with ray_place(self.on, min(self.jobs or calls, calls), gpu, shared, files) as place:
            yield place

    @contextmanager
    def holding(
        self, make: Make, files: Sequence[Path], tell: Callable[[str], None]
    ) -> Iterator[Pool]:
        """Have what holds something large on each machine of a Ray, or GPU, while the block runs.

        Args:
            make: makes it.
            files: that it reads, and every machine must see.
            tell: takes a line about one that is lost.

        Raises:
            FoldwiseError: the Ray isn't there, or has no room.
        """
        from foldwise.places.on_ray import ray_place
        from foldwise.places.ray_pool import Pool

        assert self.on is not None
        with ray_place(self.on, self.jobs, True, (), files) as place:
            yield Pool(place, make, tell)


HERE = Where()
