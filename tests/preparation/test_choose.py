"""What `auto` means for some rows and a backbone: rates, what picks the epoch, epochs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.parts.usercode import UserCode
from foldwise.preparation.choose import (
    ENOUGH,
    choose_embedding,
    choose_epochs,
    choose_rate,
    choose_selection,
    wants_tokens,
)
from foldwise.preparation.resolve import resolve
from foldwise.report.terminal import facts
from foldwise.run.readers import read_json
from foldwise.workflow import cross_validate

Make = Callable[..., Config]


def backed(hidden: int, depth: int = 12) -> Any:
    return SimpleNamespace(
        model_config=SimpleNamespace(hidden_size=hidden, num_hidden_layers=depth)
    )


@pytest.mark.parametrize(
    ("hidden", "model", "optimizer", "rates"),
    [
        (384, {}, {}, (3e-4, 1e-3)),
        (768, {}, {}, (1e-4, 1e-3 / 3)),
        (1024, {}, {}, (5e-5, 1e-3 / 6)),
        (4096, {}, {}, (2e-5, 1e-3 / 15)),
        (768, {}, {"layer_decay": 1.0}, (5e-5, 1e-3 / 6)),
        (384, {"lora": {}}, {}, (1e-3, 1e-3)),
        (1024, {"lora": {}}, {"layer_decay": 1.0}, (5e-4, 1e-3 / 6)),
        (768, {}, {"lr": 2e-3}, (2e-3, 1e-3)),
    ],
)
def test_the_rate_goes_by_the_backbones_size(
    make_config: Make, hidden: int, model: Any, optimizer: Any, rates: tuple[float, float]
) -> None:
    settings = {"lr": "auto", "head_lr": 1e-3, **optimizer}
    chosen = choose_rate(make_config(model=model, optimizer=settings), backed(hidden)).optimizer
    assert (chosen.lr, chosen.head_lr) == (pytest.approx(rates[0]), pytest.approx(rates[1]))


def test_a_model_of_ones_own_gets_a_small_backbones_rate(make_config: Make) -> None:
    config = make_config(optimizer={"lr": "auto", "head_lr": None})
    assert choose_rate(config, object()).optimizer.lr == 3e-4


def test_columns_alone_learn_fast(make_config: Make) -> None:
    columns = {"text": [], "categorical": ["kind"]}
    model = {"fusion": "concat"}
    config = make_config(data=columns, model=model, optimizer={"lr": "auto"})
    assert choose_rate(config, SimpleNamespace(model_config=None)).optimizer.lr == 1e-2


@pytest.mark.parametrize(
    ("rows", "sections", "chosen"),
    [
        (2999, {}, "last"),
        (3000, {}, "inner"),  # two of three folds train: 2,000 rows
        (90, {"training": {"patience": 3}}, "inner"),
        (90, {"training": {"evaluate_every": 3}}, "inner"),
        (90, {"schedule": "plateau"}, "inner"),
        (9000, {"selection": {"rows": "last"}}, "last"),
    ],
)
def test_what_picks_the_epoch_goes_by_the_rows(
    make_config: Make, rows: int, sections: Any, chosen: str
) -> None:
    config = make_config(**{"selection": {"rows": "auto"}, **sections})
    assert choose_selection(config, rows).selection.rows == chosen


COLUMNS: dict[str, Any] = {
    "data": {"text": [], "categorical": ["kind"]},
    "model": {"fusion": "concat"},
}
WINDOWS = {"max_length": 32, "long": "chunks", "stride": 3}


@pytest.mark.parametrize(
    ("rows", "sections", "reads", "chosen"),
    [
        (90, {}, True, "tokens"),
        (90, {}, False, "middle_and_last"),
        # Of 256 units and 32 tokens, 4 GiB are the halves of 262,144 inputs.
        (262_144, {"text": {"max_length": 32}}, True, "tokens"),
        (262_145, {"text": {"max_length": 32}}, True, "middle_and_last"),
        (65_536, {"text": {**WINDOWS, "max_chunks": 4}}, True, "tokens"),
        (65_537, {"text": {**WINDOWS, "max_chunks": 4}}, True, "middle_and_last"),
        (90, {"text": WINDOWS}, True, "middle_and_last"),  # nobody knows how many windows
        (90, {"model": {"embedding": "last"}}, True, "last"),
        (90, {"model": {"embedding": "tokens"}}, False, "tokens"),
        (300_000, {"model": {"embedding": "tokens"}}, True, "tokens"),
        (90, COLUMNS, True, "auto"),
    ],
)
def test_states_of_tokens_are_kept_where_a_member_reads_them_and_they_are_few(
    make_config: Make, rows: int, sections: Any, reads: bool, chosen: str
) -> None:
    members = ["model", "network" if reads else "linear"]
    config = make_config(**{"ensemble": members if "data" not in sections else "auto", **sections})
    config = choose_embedding(config, UserCode(config.code), backed(256), rows)
    assert config.model.embedding == chosen


def test_of_a_model_of_ones_own_no_states_are_kept(make_config: Make) -> None:
    config = make_config(ensemble="auto")
    chosen = choose_embedding(config, UserCode(config.code), object(), 90)
    assert chosen.model.embedding == "middle_and_last"


@pytest.mark.parametrize(
    ("sections", "wanted"),
    [
        ({"ensemble": "auto"}, True),
        ({"ensemble": ["model", "network"]}, True),
        ({"ensemble": ["model", "linear", "embedding", "boosting"]}, False),
        ({"ensemble": "model", "baselines": True}, False),
        ({"ensemble": "auto", "model": {"lora": {}}}, False),
        ({"ensemble": "auto", **COLUMNS}, False),
    ],
)
def test_only_networks_on_a_text_want_the_states_of_its_tokens(
    make_config: Make, sections: Any, wanted: bool
) -> None:
    config = make_config(**sections)
    assert wants_tokens(config, UserCode(config.code)) == wanted


@pytest.mark.parametrize(
    ("rows", "training", "model", "epochs"),
    [
        (160, {"batch_size": 16}, {}, ENOUGH // 10),
        (161, {"batch_size": 16}, {}, -(-ENOUGH // 11)),
        (160, {"batch_size": 16, "accumulate": 4}, {}, ENOUGH // 3),
        (160, {"batch_size": None, "tokens_per_batch": 512}, {}, ENOUGH // 10),
        (160, {"batch_size": 16}, {"lora": {}}, 2 * ENOUGH // 10),
        (160, {"batch_size": 16}, {"freeze": 12}, 2 * ENOUGH // 10),
        (20, {"batch_size": 32}, {}, 100),
        (90_000, {"batch_size": 16}, {}, 5),
        (160, {"batch_size": 16, "epochs": 2}, {}, 2),
    ],
)
def test_epochs_give_enough_steps(
    make_config: Make, rows: int, training: Any, model: Any, epochs: int
) -> None:
    config = make_config(training={"epochs": "auto", **training}, model=model)
    chosen, told = choose_epochs(config, backed(384), rows, tokens=32.0)
    assert (chosen.training.epochs, told["epochs"]) == (epochs, epochs)
    assert told["enough_steps"] == ENOUGH * (2 if model else 1)


def test_what_was_chosen_stands_in_the_run_and_is_kept(make_config: Make) -> None:
    open_keys: dict[str, Any] = {
        "selection": {"rows": "auto"},
        "optimizer": {"lr": "auto", "head_lr": 1e-2},
        "training": {"epochs": "auto", "batch_size": 30},
    }
    config = make_config(**open_keys)
    run = cross_validate(config, only=[1])
    stored = load_config(run.config)
    assert stored.training.epochs == 100  # 60 rows are two steps an epoch
    assert (stored.selection.rows, stored.optimizer.lr) == ("last", 3e-4)
    counts = read_json(run.manifest)["counts"]["training"]
    assert counts == {"epochs": 100, "steps": 200, "enough_steps": ENOUGH}
    again = resolve(config, like=stored)
    assert (again.training, again.selection, again.optimizer) == (
        stored.training,
        stored.selection,
        stored.optimizer,
    )
    assert cross_validate(config, only=[2]).fold(2).trained.exists()


def test_few_steps_are_told() -> None:
    few = {"rows_read": 90, "rows_after_sampling": 90}
    training = {"epochs": 5, "steps": 15, "enough_steps": 240}
    lines = facts({**few, "training": training})
    assert "5 epochs, 15 optimizer steps a fold" in lines
    assert lines[-1].startswith("warning: 15 steps are few: about 240 are enough")
    assert not any("few" in line for line in facts({**few, "training": {**training, "steps": 120}}))
