"""What levers.py tries, by name: how a model is trained otherwise than `base`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lever_tables import TABLES


@dataclass(frozen=True)
class Lever:
    """How a model is trained otherwise than the config has it.

    Attributes:
        seed: of the training.
        longer: times the epochs.
        faster: times the learning rates.
        ema: the exponential average of the weights in place of the last.
        offset: the logits are added to those of a blend of linear, embedding and lookup, fitted in
            five parts of the training rows, so that the network learns what those leave over.
        probe: the head is fitted to the pooled vectors before anything else is trained (LP-FT,
            Kumar et al. 2022), by L-BFGS on the task's own loss.
        reinit: top blocks that are drawn anew.
        pretrain: passes of masked words over the texts of all rows that the fold doesn't score.
        wide: a linear path over hashed words and categories is added to the logits.
        adversarial: each step also learns from word embeddings moved the worst way.
        config: other values of the config, by section.
        classes: whether it is for classes only.
        columns: whether it is for tables with columns beside the text only.
    """

    seed: int = 42
    longer: float = 1.0
    faster: float = 1.0
    ema: float | None = None
    offset: bool = False
    probe: bool = False
    reinit: int = 0
    pretrain: int = 0
    wide: bool = False
    adversarial: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    classes: bool = False
    columns: bool = False

    def fits(self, name: str) -> bool:
        """Say whether it can be tried on a table."""
        table = TABLES[name]
        beside = any(table.data.get(kind) for kind in ("categorical", "numeric"))
        return (beside or not self.columns) and (table.task == "multiclass" or not self.classes)


LEVERS = {
    "base": Lever(),
    "seed2": Lever(seed=43),
    "long": Lever(longer=2.0),
    "short": Lever(longer=0.5),
    "ema": Lever(ema=0.95),
    "offset": Lever(offset=True),
    "probe": Lever(probe=True),
    "reinit": Lever(reinit=1),
    "reinit2": Lever(reinit=2),
    "pretrain": Lever(pretrain=5),
    "pretrain20": Lever(pretrain=20),
    "wide": Lever(wide=True),
    "slow": Lever(faster=0.5),
    "fast": Lever(faster=2.0),
    "fgm": Lever(adversarial=True),
    "even": Lever(config={"optimizer": {"layer_decay": 1.0}}),  # half the rate: see choose_rate
    "rdrop": Lever(config={"loss": {"name": "r_drop"}}, classes=True),
    "rdrop3": Lever(config={"loss": {"name": "r_drop", "alpha": 3.0}}, classes=True),
    "smooth": Lever(config={"loss": {"label_smoothing": 0.1}}, classes=True),
    "unweighted": Lever(config={"loss": {"class_weights": "none"}}, classes=True),
    "layers": Lever(config={"model": {"layers": 4}}),
    "queries": Lever(config={"model": {"layers": 4, "pooling": "queries"}}),
    "mean_max": Lever(config={"model": {"pooling": "mean_max"}}),
    "samples": Lever(config={"model": {"head": {"dropout": 0.3, "samples": 5}}}),
    "hidden": Lever(config={"model": {"head": {"hidden": [384]}}}),
    "concat": Lever(config={"model": {"fusion": "concat"}}, columns=True),
}


def found(name: str) -> Lever:
    """Return a lever by its name, or several at once: reinit2+pretrain."""
    whole = Lever()
    for part in name.split("+"):
        if part not in LEVERS:
            sys.exit(f"no lever {part}; there are {', '.join(LEVERS)}")
        lever, usual = LEVERS[part], Lever()
        changed = {f.name: getattr(lever, f.name) for f in fields(lever)}
        changed = {k: v for k, v in changed.items() if v != getattr(usual, k) and k != "config"}
        config = {**whole.config}
        for section, keys in lever.config.items():
            config[section] = {**config.get(section, {}), **keys}
        whole = replace(whole, **changed, config=config)
    return whole
