"""One fold over several processes on a CPU: the numbers of one process, and one word at the end."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from conftest import small_config
from foldwise.commands.train import train
from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.places.where import Where
from foldwise.run import checkpoints
from foldwise.run.folder import STARTS, RunFolder
from foldwise.run.history import read_history
from foldwise.workflow import cross_validate, validate

MAIN = [sys.executable, "-c", "from foldwise.cli import main; main()"]


def launch(size: int, *arguments: str) -> list[subprocess.Popen[str]]:
    """Start so many processes, as torchrun does; of one, without its variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place: dict[str, Any] = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": size}
    place |= {"LOCAL_WORLD_SIZE": size}
    return [
        subprocess.Popen(
            [*MAIN, *arguments],
            env={
                **os.environ,
                **({k: str(v) for k, v in (place | {"RANK": r, "LOCAL_RANK": r}).items()}),
            }
            if size > 1
            else dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(size)
    ]


def ends(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    told = [process.communicate(timeout=600) for process in processes]
    return [(p.returncode, *said) for p, said in zip(processes, told, strict=True)]


def written(config: Config, folder: Path) -> str:
    path = folder / f"{config.run.name}.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    return str(path)


def furthest(left: RunFolder, right: RunFolder, folds: Sequence[int] = (1, 2)) -> float:
    """Return the largest difference of any loss or gradient norm in the folds' histories."""
    far = 0.0
    for number in folds:
        lines = [read_history(run.fold(number).history) for run in (left, right)]
        assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
        for one, other in zip(*lines, strict=True):
            assert one.keys() == other.keys()
            far = max(
                far,
                abs(one["loss"] - other["loss"]),
                abs(one.get("grad_norm", 0) - other.get("grad_norm", 0)),
            )
    return far


def uneven(
    make: Callable[..., Config], name: str, training: dict[str, Any] | None = None, **sections: Any
) -> Config:
    # 45 rows a fold, some of them inner: windows of 3 micro-batches, a last one that doesn't fill.
    few = {"epochs": 2, "log_every": 1, "accumulate": 3, "shares": 2, "precision": "float32"}
    few |= training or {}
    return make(run={"name": name}, folds={"n": 2}, training=few, **sections)


OWN = """
import os
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import nn

from foldwise.tasks.multiclass import Multiclass


class Tied(nn.Module):  # not a language model: a weight that is used twice, and a single number
    def __init__(self, classes):
        super().__init__()
        self.there, self.back = nn.Linear(32, 32), nn.Linear(32, 32)
        self.back.weight = self.there.weight
        self.scale = nn.Parameter(torch.ones(()))
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(32, classes))

    def forward(self, numbers):
        return self.head(self.scale * self.back(self.there(numbers).tanh()).tanh())


class Numbers(Multiclass):
    def rows(self):
        rng = np.random.default_rng(0)
        numbers = rng.normal(size=(50, 32))
        labels = np.array(["a", "b", "c"])[numbers[:, :3].argmax(axis=1)]
        return pl.DataFrame({"numbers": numbers.tolist(), "label": labels})

    def dataset(self, frame):
        return list(zip(frame["numbers"].to_list(), self.target_ids(frame), strict=True))

    def collate(self, rows):
        numbers, targets = zip(*rows, strict=True)
        return {"numbers": torch.tensor(numbers), "target": torch.tensor(targets)}

    def build_model(self):
        return Tied(len(self.classes))


class Counted(torch.optim.AdamW):  # says what this process holds of weights, gradients and state
    def __init__(self, params, lr, note):
        super().__init__(params, lr=lr)
        self.note = note

    def step(self, closure=None):
        super().step(closure)
        parameters = [p for group in self.param_groups for p in group["params"]]
        held = [*parameters, *(p.grad for p in parameters)]
        held += [t for p in parameters for t in self.state[p].values() if t.ndim]
        size = sum(getattr(t, "to_local", lambda t=t: t)().nbytes for t in held)
        if "HELD" in os.environ:
            (Path(os.environ["HELD"]) / f"{self.note}-{os.environ['RANK']}").write_text(str(size))
"""


def own(make: Callable[..., Config], name: str, code: Path, **training: Any) -> Config:
    return uneven(
        make,
        name,
        code=[str(code)],
        task="own.Numbers",
        data={"path": None, "text": [], "target": "label"},
        optimizer={"name": "own.Counted", "note": name},
        metrics=["accuracy"],
        selection={"metric": "accuracy", "rows": "inner"},
        training={"seeds": 2, **training},
    )


def rich(make: Callable[..., Config], name: str, **training: Any) -> Config:
    """All at once of what a step's gradient or a checkpoint hangs on."""
    return uneven(
        make,
        name,
        model={"freeze": 1, "layers": 2},
        loss={"name": "r_drop", "class_weights": "balanced"},
        optimizer={"layer_decay": 0.5},
        holdout={"fraction": 0.1},
        training={"average": {"ema": 0.9}, "keep": "all", **training},
    )


@dataclass(frozen=True)
class Two:
    """What two processes have trained, one config after the other, and how they left."""

    make: Callable[..., Config]
    folder: Path
    found: tuple[int, str, str]

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.folder / "runs" / name)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, backbone: Path, table_path: Path) -> Two:
    """Runs of two processes, whole and in parts; the last of them one process has begun."""
    folder = tmp_path_factory.mktemp("two")
    make = small_config(folder / "runs", backbone, table_path)
    code = folder / "own.py"
    code.write_text(OWN)
    begun = uneven(make, "continued", training={"save_minutes": 0.0})
    stop_after(3, begun)
    configs = [
        uneven(make, "both"),
        rich(make, "rich-both"),
        rich(make, "rich-parts", shard=True),
        own(make, "own-both", code),
        own(make, "own-parts", code, shard=True),
        uneven(make, "continued", training={"save_minutes": 0.0, "shard": True}),
    ]
    return Two(make, folder, forked(2, folder, configs))


def stop_after(saves: int, config: Config) -> None:
    """Train the first fold in this process, and be killed once so many checkpoints are written."""
    with pytest.MonkeyPatch.context() as patch:
        save, left = checkpoints.save, iter(range(saves - 1))

        def saved(*arguments: Any, **options: Any) -> None:
            save(*arguments, **options)
            if next(left, None) is None:
                raise RunInterrupted("killed")

        patch.setattr(checkpoints, "save", saved)
        with pytest.raises(RunInterrupted, match=r"^killed$"):
            cross_validate(config, only=[1])


def forked(size: int, folder: Path, configs: Sequence[Config]) -> tuple[int, str, str]:
    """Train the first fold of configs by so many processes, which import everything once."""
    script = Path(__file__).with_name("forked.py")
    paths = [written(config, folder) for config in configs]
    done = subprocess.run(
        [sys.executable, str(script), str(size), str(folder), *paths],
        env={**os.environ, "HELD": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout, done.stderr


def test_two_processes_have_the_losses_of_one_at_every_step(two: Two) -> None:
    code, _, err = two.found
    assert code == 0, err
    assert "2 processes train each fold together: a step has 6 pieces" in err
    one, run = cross_validate(uneven(two.make, "one"), only=[1]), two.run("both")
    assert furthest(one, run, folds=[1]) < 1e-5
    assert len({event["pid"] for event in run.events() if "pid" in event}) == 1
    rows = [pl.read_parquet(r.fold(1).predictions) for r in (one, run)]
    assert rows[0]["row"].equals(rows[1]["row"])
    for name in (name for name in rows[0].columns if name.startswith("logit_")):
        assert (rows[0][name] - rows[1][name]).abs().max() < 1e-4
    # Begun by one, which was killed, and continued by two that hold a part each.
    assert furthest(one, two.run("continued"), folds=[1]) < 1e-5


def test_frozen_blocks_two_passes_weighted_classes_rates_by_layer_and_averages_are_those_of_one(
    two: Two,
) -> None:
    one = cross_validate(rich(two.make, "rich"), only=[1])
    for name in ("rich-both", "rich-parts"):
        assert furthest(one, two.run(name), folds=[1]) < 1e-5


def test_a_model_of_ones_own_with_tied_weights_is_that_of_one(two: Two) -> None:
    one = cross_validate(own(two.make, "own", two.folder / "own.py"), only=[1])
    for name in ("own-both", "own-parts"):
        assert furthest(one, two.run(name), folds=[1]) < 1e-5


def test_checkpoints_of_a_model_in_parts_are_those_of_a_whole_one(two: Two) -> None:
    whole, parts = (
        checkpoints.load(checkpoints.pointed(two.run(name).fold(1), "last"))
        for name in ("rich-both", "rich-parts")
    )
    for its, others in ((whole.model, parts.model), (whole.optimizer, parts.optimizer)):
        assert list(its) == list(others)
        for name, tensor in its.items():
            torch.testing.assert_close(others[name], tensor, rtol=1e-4, atol=1e-5)
    assert whole.state["groups"] == parts.state["groups"]


def test_rows_are_scored_in_parts_as_by_a_whole_model(two: Two) -> None:
    run = two.run("rich-parts")
    files = [run.fold(1).predictions, run.fold(1).holdout]
    scored = [path.read_bytes() for path in files]
    validate(run.path)
    assert [path.read_bytes() for path in files] == scored


def test_each_process_holds_its_part_of_weights_gradients_and_state(two: Two) -> None:
    held = {path.name: int(path.read_text()) for path in two.folder.glob("own-*-[01]")}
    assert held["own-both-0"] == held["own-both-1"]
    assert held["own-parts-0"] + held["own-parts-1"] < 1.01 * held["own-both-0"]
    for name in ("own-both", "own-parts"):
        (told,) = (e["held_bytes"] for e in two.run(name).events() if e["event"] == STARTS)
        assert told == pytest.approx(held[f"{name}-0"], rel=0.001)


def test_who_follows_leaves_at_once_and_who_leads_goes_last(two: Two) -> None:
    assert sorted(path.name for path in two.folder.glob("ended-*")) == ["ended-0"]
    ended, left = (float((two.folder / name).read_text()) for name in ("ended-0", "left-1"))
    assert ended > left


def test_folds_side_by_side_and_one_fold_together_are_not_mixed(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    path = Path(written(uneven(make_config, "mixed"), tmp_path))
    with pytest.raises(FoldwiseError, match="give one or the other"):
        train(path, [], None, Where(jobs=2))


@pytest.mark.slow
def test_bad_input_is_told_once_and_ends_all(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    path = written(uneven(make_config, "bad"), tmp_path)
    found = ends(launch(3, "train", path, "--set", "data.target=nothing"))
    assert [code for code, _, _ in found] == [2, 2, 2]
    assert sum(err.count("error: ") for _, _, err in found) == 1
    assert not RunFolder(tmp_path / "runs" / "bad").config.exists()


MORE: dict[str, dict[str, Any]] = {
    "lora": {"model": {"lora": {"r": 4}}},
    "dora": {"model": {"lora": {"r": 4, "variant": "dora"}}},
    "freeze": {"model": {"freeze": 1}},
    "r_drop": {"loss": {"name": "r_drop"}},
    "tokens": {"training": {"tokens_per_batch": 90, "batch_size": None}},
    "average": {
        "training": {"accumulate": 1, "average": {"ema": 0.9}},
        "schedule": {"name": "plateau"},
    },
    "recomputed": {"model": {"checkpoint_activations": True}},
    "columns": {
        "data": {"categorical": ["kind"], "numeric": ["amount"]},
        "model": {"fusion": "tokens", "pooling": "attention"},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
@pytest.mark.parametrize("size", [3, 4])
def test_several_processes_have_the_losses_of_one_whatever_is_trained(
    make_config: Callable[..., Config], tmp_path: Path, size: int, shard: bool
) -> None:
    def config(kind: str, count: int, **placed: Any) -> Config:
        few = {"epochs": 3, "shares": 3, **MORE[kind].get("training", {}), **placed}
        others = {key: section for key, section in MORE[kind].items() if key != "training"}
        return uneven(make_config, f"{kind}-{count}", few, **others)

    code, _, err = forked(size, tmp_path, [config(kind, size, shard=shard) for kind in MORE])
    assert code == 0, err
    for kind in MORE:
        one = cross_validate(config(kind, 1), only=[1])
        assert furthest(one, RunFolder(one.path.parent / f"{kind}-{size}"), folds=[1]) < 1e-5


@pytest.mark.slow
def test_in_bf16_a_model_in_parts_is_that_of_one_but_for_rounding(
    make_config: Callable[..., Config], backbones: Callable[[str], Path], tmp_path: Path
) -> None:
    def config(kind: str, count: int, **placed: Any) -> Config:
        model = {"backbone": str(backbones(kind)), "attention": "eager"}
        few = {"precision": "bf16", **placed}
        return uneven(make_config, f"{kind}-{count}", few, model=model)

    kinds = ("bert", "gpt2")
    code, _, err = forked(2, tmp_path, [config(kind, 2, shard=True) for kind in kinds])
    assert code == 0, err
    for kind in kinds:
        one = cross_validate(config(kind, 1), only=[1])
        losses = [
            [line["loss"] for line in read_history(run.fold(1).history)]
            for run in (one, RunFolder(one.path.parent / f"{kind}-2"))
        ]
        assert losses[1] == pytest.approx(losses[0], abs=0.02)


@pytest.mark.slow
def test_an_optimizer_that_needs_whole_tensors_is_refused_once(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    whole = {"name": "torch.optim.Adafactor", "weight_decay": 0.0}
    config = uneven(make_config, "refused", {"shard": True}, optimizer=whole)
    code, _, err = forked(2, tmp_path, [config])
    assert code == 2
    assert err.count("error: optimizer: torch.optim.Adafactor can't update a model in parts") == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_and_continued_by_two_or_one_it_is_the_same(
    make_config: Callable[..., Config], tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    many = {"epochs": 30, "save_minutes": 0.0}
    one = cross_validate(uneven(make_config, "one", many))
    path = written(uneven(make_config, "killed", many), tmp_path)
    run = RunFolder(one.path.parent / "killed")
    total = done(one)
    for size, goal in zip([2, 2, 1, 2, 1], sorted(draw.sample(range(1, total), 5)), strict=True):
        shard = draw.choice(["true", "false"])
        processes = launch(size, "train", path, "--set", f"training.shard={shard}")
        while all(p.poll() is None for p in processes) and done(run) < goal:
            time.sleep(0.01)
        time.sleep(draw.random() / 10)  # anywhere within a step
        victim = draw.choice(processes)
        victim.send_signal(signal.SIGKILL)
        found = ends(processes)
        for process, (code, _, err) in zip(processes, found, strict=True):
            if process is not victim and code:  # 0: it was through before it missed the other
                assert code == 1
                assert err.count("stopped: one of the 2 processes is gone without a word") == 1
    last = launch(2, "train", path, "--set", "training.shard=true")
    assert [code for code, _, _ in ends(last)] == [0, 0]
    assert furthest(one, run) < 1e-5


def done(run: RunFolder) -> int:
    """Return the steps that stand in the histories of both folds."""
    paths = [run.fold(number).history for number in (1, 2)]
    return sum(path.read_text().count('"split": "step"') for path in paths if path.exists())
