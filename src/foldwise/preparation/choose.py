"""What `auto` means where it hangs on the rows or the backbone: what is known of them in, keys out.

`optimizer.lr` by the backbone's size, `selection.rows` and `model.embedding` by the rows of the
table, `training.epochs` by the rows of a fold. All are the same for every fold, and stand in the
run's config.
"""

from __future__ import annotations

import math
from typing import Any

from foldwise.config.grammar import BUILTIN
from foldwise.config.members import MODEL, beside_the_model
from foldwise.config.schema import Config
from foldwise.config.training import DEFAULT_LR
from foldwise.parts.registry import find_part, member_kind
from foldwise.parts.usercode import UserCode

# Optimizer steps of a fold. Of real tables of 200 rows (benchmarks/enough_training.py) three gain
# from 60 steps to as many; 15 steps are next to nothing on all six.
ENOUGH = 240
LEAST_EPOCHS, MOST_EPOCHS = 5, 100
# A tenth of fewer training rows tells neighbouring epochs apart by luck, and is missed in training.
INNER_ROWS = 2000

# Bytes of the states of a table's tokens, kept beside the runs as halves.
MOST_STATES = 4 * 2**30

# Rates of the top block with layer decay: 3e-4 measured on MiniLM (docs/experiments.md); those of
# 768 and 1024 units are ELECTRA's (Clark et al. 2020; configure_finetuning.py), tuned with it.
# Without layer decay BERT's are lower by half: 2e-5 to 5e-5 (Devlin et al. 2019, appendix A.3), and
# large models fail to learn in some seeds above 2e-5 (Mosbach et al. 2021).
_RATES = {512: DEFAULT_LR, 768: 1e-4, 1024: 5e-5}
_LARGER = 2e-5
# Columns alone begin at random: of 3e-4, 1e-3, 3e-3, 1e-2 and 3e-2 this was the best on two made-up
# tables of 300 rows (flats: R2 0.401, 0.803, 0.909, 0.924, 0.922; linear 0.949).
_COLUMNS = 1e-2
# RoBERTa's adapters were trained at 2e-4 to 5e-4 (Hu et al. 2022, appendix D).
_LORA, _HIGHEST_LORA = 10.0, 1e-3

Chosen = dict[str, int]


def choose_rate(config: Config, task: Any) -> Config:
    """Put a rate where the config says `optimizer.lr: auto`.

    Args:
        config: with the other keys resolved.
        task: its `model_config` is the backbone's; a model of one's own gets a small one's rate.
    """
    optimizer = config.optimizer
    if optimizer.lr != "auto":
        return config
    model_config = getattr(task, "model_config", None)
    hidden = getattr(model_config, "hidden_size", None)
    rate = DEFAULT_LR
    if config.task in BUILTIN["task"] and not config.data.text and model_config is None:
        return config.model_copy(update={"optimizer": optimizer.at(_COLUMNS)})
    if isinstance(hidden, int):
        rate = next((rate for most, rate in _RATES.items() if hidden <= most), _LARGER)
        if optimizer.layer_decay == 1 and config.model.lora is None:
            rate /= 2
    chosen = optimizer.at(rate)
    if config.model.lora is not None:
        chosen = chosen.model_copy(update={"lr": min(_HIGHEST_LORA, _LORA * rate)})
    return config.model_copy(update={"optimizer": chosen})


def usual_rate(config: Config, task: Any) -> float:
    """Return what `choose_rate` takes for `auto`, whatever rate the config names."""
    auto = config.optimizer.model_copy(update={"lr": "auto"})
    return choose_rate(config.model_copy(update={"optimizer": auto}), task).optimizer.rate


def choose_selection(config: Config, rows: int) -> Config:
    """Say what picks the epoch where the config says `selection.rows: auto`.

    Args:
        config: `folds`, `training` and `schedule` are read.
        rows: of the table, to be split into folds.
    """
    if config.selection.rows != "auto":
        return config
    training = config.training
    evaluating = training.patience or training.evaluate_every or config.schedule.name == "plateau"
    share = (config.folds.n - 1) / config.folds.n
    chosen = "inner" if evaluating or rows * share >= INNER_ROWS else "last"
    selection = config.selection.model_copy(update={"rows": chosen})
    return config.model_copy(update={"selection": selection})


def choose_embedding(config: Config, code: UserCode, task: Any, rows: int) -> Config:
    """Say what members get of a text where the config says `model.embedding: auto`.

    Args:
        config: `data`, `text` and the members are read.
        code: the user's files.
        task: its `model_config` is the backbone's.
        rows: of the table, at most.

    Raises:
        FoldwiseError: there is no such member.
    """
    if config.model.embedding != "auto" or not config.data.text:
        return config
    hidden = getattr(getattr(task, "model_config", None), "hidden_size", None)
    windows = config.text.max_chunks if config.text.long == "chunks" else 1
    chosen = "middle_and_last"
    if isinstance(hidden, int) and windows is not None and wants_tokens(config, code):
        states = rows * windows * config.text.max_length
        chosen = "tokens" if 2 * hidden * states <= MOST_STATES else chosen
    model = config.model.model_copy(update={"embedding": chosen})
    return config.model_copy(update={"model": model})


def wants_tokens(config: Config, code: UserCode) -> bool:
    """Say whether a run has a member that learns from what the backbone says of each token."""
    others = [part.name for part in beside_the_model(config) if part.name != MODEL]
    found = [find_part(member_kind(name), name, code, "ensemble") for name in others]
    return any(getattr(member, "reads_tokens", False) for member in found)


def choose_epochs(config: Config, task: Any, rows: int, tokens: float) -> tuple[Config, Chosen]:
    """Put a number where the config says `training.epochs: auto`.

    Args:
        config: `training` and `model` are read.
        task: its `model_config` is the backbone's, if it has one.
        rows: training rows of the smallest fold.
        tokens: of a row, in the mean; read where batches are filled by tokens.

    Returns:
        The config, and what to write down: epochs, steps of a fold, and how many are enough.
    """
    training = config.training
    size = training.batch_size or max(1, int((training.tokens_per_batch or 0) / tokens))
    steps = math.ceil(math.ceil(rows / size) / training.accumulate)
    enough = enough_steps(config, task)
    if training.epochs == "auto":
        chosen = min(MOST_EPOCHS, max(LEAST_EPOCHS, math.ceil(enough / max(1, steps))))
        training = training.model_copy(update={"epochs": chosen})
        config = config.model_copy(update={"training": training})
    epochs = training.passes
    return config, {"epochs": epochs, "steps": epochs * steps, "enough_steps": enough}


def enough_steps(config: Config, task: Any) -> int:
    """Return the optimizer steps that a fold should have at least.

    What begins at random or moves little needs more: embeddings of columns, the head of a frozen
    backbone, adapters.
    """
    model_config = getattr(task, "model_config", None)
    depth = getattr(model_config, "num_hidden_layers", None)
    frozen = isinstance(depth, int) and config.model.freeze >= depth
    slow = model_config is None or frozen or config.model.lora is not None
    return ENOUGH * (2 if slow else 1)
