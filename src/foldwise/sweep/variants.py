"""From config files to the runs of a sweep: paths and a `sweep` section in, named variants out.

Every variant is a whole config, loaded and checked before the first run starts, so that a misspelt
key in the hundredth is told at once. Its name says what it tries and stays the same from call to
call, which is what lets a sweep be continued.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from foldwise.config.load import dump_value, load_config
from foldwise.config.schema import Config
from foldwise.config.search import Range, Sweep
from foldwise.errors import FoldwiseError
from foldwise.run.folder import RunFolder
from foldwise.storage.places import run_of

_LONGEST = 100  # characters of a run's name


@dataclass(frozen=True)
class Variant:
    """One run of a sweep.

    Attributes:
        path: the config file.
        overrides: `key=value` texts that make the variant out of it.
        config: what both come to.
    """

    path: Path
    overrides: tuple[str, ...]
    config: Config

    @property
    def name(self) -> str:
        """The run's name."""
        return self.config.run.name

    @property
    def run(self) -> RunFolder:
        """The run's folder."""
        return run_of(self.config.run.dir, self.name)

    @property
    def folds(self) -> list[int]:
        """The folds that the run consists of."""
        folds = self.config.folds
        every = range(1, folds.n * folds.repeats + 1)
        return list(every) if folds.run == "all" else sorted(folds.run)


def find_configs(paths: Sequence[Path]) -> list[Path]:
    """List the config files that files and folders name, in order.

    Raises:
        FoldwiseError: no such file, or a folder without configs.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
            if not inside:
                raise FoldwiseError(f"{path}: holds no .yaml file")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise FoldwiseError(f"{path}: no such file or folder")
    return list(dict.fromkeys(found))


def expand(paths: Sequence[Path], overrides: Sequence[str] = ()) -> list[Variant]:
    """Load every variant of some configs.

    Args:
        paths: config files; one without a `sweep` section is a single variant.
        overrides: `key=value` texts for all of them.

    Raises:
        FoldwiseError: a config that doesn't load, or two runs of one name.
    """
    variants = [variant for path in paths for variant in _variants(path, overrides)]
    first: dict[Path, Variant] = {}
    for variant in variants:
        place = variant.run.path.resolve()
        if place in first:
            raise FoldwiseError(
                f"{variant.path} and {first[place].path} both name the run {variant.run.path}; "
                "give one another run.name"
            )
        first[place] = variant
    return variants


def variant_of(path: Path, overrides: Sequence[str], base: str, values: dict[str, Any]) -> Variant:
    """Load the variant that sets some keys, under the name that says so.

    Args:
        path: the config file.
        overrides: `key=value` texts that come first.
        base: name of the config's run.
        values: by dotted key.
    """
    texts = [f"{key}={dump_value(value)}" for key, value in values.items()]
    name = variant_name(base, values)
    settings = (*overrides, "sweep=null", *texts, f"run.name={dump_value(name)}")
    return Variant(path, settings, load_config(path, settings))


def variant_name(base: str, values: dict[str, Any]) -> str:
    """Return a legal run name that tells a variant from the others: `base-lr-0.0001-mean`."""
    parts = [f"{key.rpartition('.')[2]}-{dump_value(value)}" for key, value in values.items()]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([base, *parts]))
    name = re.sub(r"-+", "-", name).strip("-")
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - 9]}-{digest}"


def draw(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Yield the values of each run: every combination of a grid, or as many draws as trials.

    Draws that come out equal, as they may from lists, are made once.
    """
    if sweep.grid is not None:
        for combination in product(*sweep.grid.values()):
            yield dict(zip(sweep.grid, combination, strict=True))
        return
    rng = np.random.default_rng(sweep.seed)
    seen = set()
    for _ in range(sweep.trials):
        values = {key: _drawn(space, rng) for key, space in (sweep.random or {}).items()}
        if (shown := dump_value(values)) not in seen:
            seen.add(shown)
            yield values


def _variants(path: Path, overrides: Sequence[str]) -> list[Variant]:
    config = load_config(path, overrides)
    if config.sweep is None:
        return [Variant(path, tuple(overrides), config)]
    base = config.run.name
    return [variant_of(path, overrides, base, values) for values in draw(config.sweep)]


def _drawn(space: Range | list[Any], rng: np.random.Generator) -> Any:
    if not isinstance(space, Range):
        return space[int(rng.integers(len(space)))]
    if space.whole:
        if space.log:
            drawn = np.exp(rng.uniform(np.log(space.low), np.log(space.high)))
            return int(np.clip(round(float(drawn)), space.low, space.high))
        return int(rng.integers(int(space.low), int(space.high), endpoint=True))
    low, high = (np.log(space.low), np.log(space.high)) if space.log else (space.low, space.high)
    drawn = float(rng.uniform(low, high))
    # Three digits: the name stays short, and the fourth makes no difference.
    return float(f"{np.exp(drawn) if space.log else drawn:.3g}")
