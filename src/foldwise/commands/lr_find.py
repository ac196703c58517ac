"""`foldwise lr-find`: the range test of a config, as a picture, JSON and a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foldwise.commands.output import PLAIN, Output
from foldwise.config.load import load_config
from foldwise.errors import FoldwiseError
from foldwise.run.files import write_bytes, write_json
from foldwise.run.folder import RunFolder
from foldwise.storage.places import folder_of, run_of

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Rates:
    """The learning rates to try.

    Attributes:
        lowest: the first; None for one by what `optimizer.lr: auto` takes.
        highest: the last, unless the loss diverges before; None likewise.
        steps: optimizer steps.
        linear: rise by equal amounts instead of equal factors.
    """

    lowest: float | None
    highest: float | None
    steps: int
    linear: bool

    def check(self) -> None:
        """Refuse what is wrong whatever the backbone.

        Raises:
            FoldwiseError: the rates don't rise, or the steps are too few.
        """
        if self.lowest is not None and self.highest is not None:
            _check_rise(self.lowest, self.highest)
        if self.steps < 20:
            raise FoldwiseError(f"--steps {self.steps}: give 20 or more")

    def spread(self, lowest: float, highest: float) -> np.ndarray:
        """Return them, (steps,), with these ends where none is given.

        Raises:
            FoldwiseError: the rates don't rise.
        """
        import numpy as np

        low = lowest if self.lowest is None else self.lowest
        high = highest if self.highest is None else self.highest
        _check_rise(low, high)
        return (np.linspace if self.linear else np.geomspace)(low, high, self.steps)


def _check_rise(lowest: float, highest: float) -> None:
    if not 0 < lowest < highest:
        raise FoldwiseError(f"--from {lowest:g} --to {highest:g}: rates must be above 0 and rise")


def lr_find(
    config: Path,
    overrides: Sequence[str],
    fold: int,
    asked: Rates,
    out: Path | None,
    tell: Output = PLAIN,
) -> None:
    """Run the test and write `lr_find.png` and `lr_find.json`; runs are left alone.

    Args:
        config: the YAML file.
        overrides: `key=value` texts of --set.
        fold: whose training rows are used.
        asked: the rates to try.
        out: folder for the files; None for `<run.dir>/<run.name>.lr-find`.
        tell: prints.

    Raises:
        FoldwiseError: bad input; nothing was written.
    """
    loaded = load_config(config, overrides)
    asked.check()
    folder = out or folder_of(loaded.run.dir) / f"{loaded.run.name}.lr-find"
    if (folder / "config.yaml").exists():
        raise FoldwiseError(f"-o {folder}: is a run's folder; choose another")
    # Imported only now: a typo in the config is told in a blink, torch takes seconds.
    from foldwise.commands.quiet import quiet_libraries
    from foldwise.hardware.device import build_accelerator, set_deterministic
    from foldwise.parts.usercode import UserCode
    from foldwise.preparation.build import build_task
    from foldwise.preparation.prepare import encode_rows, prepare
    from foldwise.preparation.resolve import resolve
    from foldwise.report.lr_finder import rates_chart, rates_table
    from foldwise.training.check import check_training
    from foldwise.training.lr_finder import try_rates, usual_range

    quiet_libraries(online=True)
    resolved = resolve(loaded)
    set_deterministic(resolved.run.deterministic, resolved.training.device)
    code = UserCode(resolved.code)
    run = RunFolder(folder)  # its token store lies where the runs' does
    stores = run_of(loaded.run.dir, loaded.run.name).token_stores
    task = build_task(resolved, code, stores=stores)
    prepared = prepare(resolved, code, run, task, online=True)
    check_training(resolved, code)
    if not 1 <= fold <= prepared.assignment.n_folds:
        raise FoldwiseError(f"--fold {fold}: there are {prepared.assignment.n_folds} folds")
    rates = asked.spread(*usual_range(prepared))
    prepared = encode_rows(prepared)
    accelerator = build_accelerator(resolved.training)
    found = try_rates(prepared, fold, accelerator, rates, tell.progress)

    folder.mkdir(parents=True, exist_ok=True)
    title = f"{loaded.run.name}, fold {fold}: loss at rising learning rates"
    write_bytes(folder / "lr_find.png", rates_chart(found, title, logarithmic=not asked.linear))
    result = {"fold": fold, **found.as_json()}
    write_json(folder / "lr_find.json", result)
    tell.show(rates_table(found, prepared.config.optimizer))
    tell.end(f"picture and numbers: {folder}", {"folder": str(folder), **result})
