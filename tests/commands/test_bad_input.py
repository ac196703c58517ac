"""Bad input through the real command line: one message, exit code 2, nothing left on disk."""

import errno
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save

from foldwise import cli
from foldwise.config.load import load_config
from foldwise.errors import RunInterrupted
from foldwise.run.audit import seal_anew
from foldwise.run.folder import RunFolder
from foldwise.run.lock import lock
from foldwise.workflow import cross_validate

RUN = "runs/bad"
FOLDWISE = [sys.executable, "-c", "from foldwise.cli import main; main()"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; what `main` does to signals is undone."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    handler = signal.getsignal(signal.SIGTERM)
    yield folder
    signal.signal(signal.SIGTERM, handler)


def values_of(backbone: Path, table: Path) -> dict[str, Any]:
    return {
        "run": {"name": "bad"},
        "data": {"path": str(table), "target": "label", "text": ["text"]},
        "folds": {"n": 3, "duplicates": "identical"},
        "selection": {"rows": "inner"},
        "text": {"max_length": 24},
        "model": {"backbone": str(backbone)},
        "training": {"epochs": 1, "batch_size": 32, "device": "cpu", "precision": "float32"},
        "baselines": False,
        "ensemble": "model",
    }


@pytest.fixture
def config(here: Path, backbone: Path, table_path: Path) -> Path:
    """A config without fault, as JSON, which is YAML."""
    path = here / "config.yaml"
    path.write_text(json.dumps(values_of(backbone, table_path)), "utf-8")
    return path


@pytest.fixture
def refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command in this process; return its message once exit code and disk are right."""

    def run(*arguments: str) -> str:
        before = contents(here)
        monkeypatch.setattr(sys, "argv", ["foldwise", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed, message = capsys.readouterr()
        assert ended.value.code == 2, message
        assert printed == ""
        assert message.startswith("error: ")
        assert contents(here) == before
        return message.removeprefix("error: ").removesuffix("\n")

    return run


def contents(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, backbone: Path, table_path: Path
) -> RunFolder:
    """A run of which fold 1 is trained and folds 2 and 3 aren't."""
    folder = tmp_path_factory.mktemp("trained")
    values = values_of(backbone, table_path)
    values["run"] = {"name": "bad", "dir": str(folder / "runs")}
    path = folder / "config.yaml"
    path.write_text(json.dumps(values), "utf-8")
    return cross_validate(load_config(path), [1])


# The config file.

CONFIGS = {
    "not-utf-8": (b"run: {name: caf\xe9}\n", "config.yaml:1: isn't UTF-8 text; save it as UTF-8"),
    "bad-yaml": (b"run:\n  name: [x\n", "config.yaml:3:1: the list opened with '[' on line 2"),
    "empty": (b"", "config.yaml: the file is empty; start with `run:`, `data:`"),
    "not-a-map": (b"- run\n", "config.yaml:1: a config is a map of keys such as `run:`"),
    "key-twice": (b"run: {name: a, name: b}\n", "config.yaml:1: run.name: is given twice"),
    "nothing-but-a-name": (b"run: {name: a}\n", "data.path: is needed by task multiclass"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_file_is_refused(case: str, here: Path, refused: Callable[..., str]) -> None:
    content, expected = CONFIGS[case]
    (here / "config.yaml").write_bytes(content)
    assert expected in refused("train", "config.yaml")


def test_a_config_that_is_absent_or_a_folder_is_refused(
    here: Path, refused: Callable[..., str]
) -> None:
    assert refused("train", "no.yaml") == "no.yaml: no such file; give the path of a YAML config"
    assert refused("train", str(here)) == f"{here}: is a folder; give the YAML config in it"


SETTINGS = {
    "typo-at-the-top": (["modle.freeze=1"], "modle: unknown key; did you mean 'model'?"),
    "typo-in-a-section": (
        ["training.epoch=1"],
        "training.epoch: unknown key; did you mean 'epochs'",
    ),
    "typo-deep-down": (
        ["data.missing.numerik=mean"],
        "data.missing.numerik: unknown key; did you mean 'numeric'?",
    ),
    "key-of-another-section": (
        ["training.lr=1"],
        "training.lr: unknown key; did you mean 'optimizer",
    ),
    "wrong-type": (
        ["training.epochs=two"],
        "training.epochs: must be a whole number of 1 or more, or auto, got 'two'",
    ),
    "out-of-range": (["folds.n=1"], "folds.n: must be a whole number from 2 to 1000, got 1"),
    "unknown-task": (
        ["task=multiclas"],
        "task: unknown name 'multiclas'; did you mean 'multiclass'?",
    ),
    "impossible-combination": (
        ["folds.strategy=group"],
        "folds.group: is needed by strategy group: a column's name",
    ),
    "two-batch-rules": (
        ["training.tokens_per_batch=64"],
        "training.tokens_per_batch: give batch_size or tokens_per_batch, and set the other to null",
    ),
    "set-without-value": (
        ["training.epochs"],
        "--set training.epochs: must have the form a.b=value",
    ),
    "set-below-a-number": (
        ["folds.n.x=1"],
        "--set folds.n.x=1: folds.n is 3, not a map; set folds.n as a whole",
    ),
    "pooling": (["model.pooling=maen"], "model.pooling: unknown name 'maen'; did you mean 'mean'?"),
    "pooling-of-nobody": (
        ["model.pooling=parts.Max"],
        "model.pooling: there is no pooling 'parts.Max'; it can be mean, cls, max, mean_max, "
        "attention, queries, last, a name from one of "
        "your files under code: (none)",
    ),
    "metric": (
        ["metrics=[f1_marco]"],
        "metrics[0]: unknown name 'f1_marco'; did you mean 'f1_macro'",
    ),
    "metric-of-torchmetrics": (
        ["metrics=[torchmetrics.F2Score]"],
        "metrics[0]: there is no metric 'torchmetrics.F2Score'; it can be a Metric of torchmetrics",
    ),
    "selection-metric": (
        ["selection.metric=my_parts.profit"],
        "selection.metric: unknown metric 'my_parts.profit'; list it under metrics first",
    ),
    "loss": (
        ["loss.name=cross_entropi"],
        "loss.name: unknown name 'cross_entropi'; did you mean 'cross_entropy'?",
    ),
    "loss-of-torch": (
        ["loss.name=torch.nn.CrossEntropy"],
        "loss.name: there is no loss 'torch.nn.CrossEntropy'; it can be cross_entropy, focal",
    ),
    "loss-that-is-none": (["loss.name=torch.nn.ReLU"], "loss: torch.nn.ReLU takes no 'reduction'"),
    "optimizer": (
        ["optimizer.name=adamv"],
        "optimizer.name: unknown name 'adamv'; did you mean 'adamw'?",
    ),
    "optimizer-of-torch": (
        ["optimizer.name=torch.optim.AdamV"],
        "optimizer: there is no optimizer 'torch.optim.AdamV'; it can be adamw, adamw_8bit, ",
    ),
    "optimizer-argument": (
        ["optimizer.name=torch.optim.SGD", "optimizer.momentun=0.9"],
        "optimizer: torch.optim.SGD takes no 'momentun'; it takes: momentum, dampening",
    ),
    "optimizer-argument-value": (
        ["optimizer.name=torch.optim.SGD", "optimizer.momentum=-1"],
        "optimizer: torch.optim.SGD can't be built: ValueError: Invalid momentum value: -1",
    ),
    "optimizer-with-a-closure": (
        ["optimizer.name=torch.optim.LBFGS"],
        "optimizer: torch.optim.LBFGS can't be used: its step() needs closure, which computes",
    ),
    "optimizer-of-sparse-gradients": (
        ["optimizer.name=torch.optim.SparseAdam", "optimizer.weight_decay=0"],
        "optimizer: torch.optim.SparseAdam can't be used: step() fails: RuntimeError: SparseAdam",
    ),
    "optimizer-that-pages-nothing": (
        ["optimizer.name=paged_adamw_8bit"],
        "optimizer: paged_adamw_8bit moves its state between the memory of CUDA and the host's; on",
    ),
    "schedule": (["schedule=cosin"], "schedule: unknown name 'cosin'; did you mean 'cosine'?"),
    "schedule-argument": (
        ["schedule=torch.optim.lr_scheduler.StepLR"],
        "schedule: torch.optim.lr_scheduler.StepLR needs step_size",
    ),
    "schedule-that-needs-a-score": (
        ["schedule=torch.optim.lr_scheduler.ReduceLROnPlateau"],
        "schedule: torch.optim.lr_scheduler.ReduceLROnPlateau needs metrics at each step; choose",
    ),
    "max-length-over-the-window": (
        ["text.max_length=65"],
        "reads 64 tokens at most; lower it",
    ),
    "freeze-too-deep": (["model.freeze=3"], "has 2 blocks"),
    "weights-of-a-wrong-label": (
        ["loss.class_weights={card: 1, loan: 1, dept: 2}"],
        "loss.class_weights must name each class once; 'debt' is missing; the classes are: card, "
        "debt, loan",
    ),
    "folds-run-out-of-range": (["folds.run=[1, 4]"], "folds.run names fold 4, but there are 3"),
    "more-folds-than-rows": (["folds.n=91"], "folds.n is 91 but there are only 90 rows to split"),
    "device": (
        ["training.device=mps"],
        "training.device: mps isn't available here; use auto or cpu",
    ),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_is_refused(case: str, config: Path, refused: Callable[..., str]) -> None:
    settings, expected = SETTINGS[case]
    options = [part for setting in settings for part in ("--set", setting)]
    assert expected in refused("train", "config.yaml", *options)


@pytest.mark.parametrize(
    ("folds", "expected"),
    [
        ("4", "--folds 4: the run consists of folds [1, 2, 3]"),
        ("0,1", "--folds 0: the run consists of folds [1, 2, 3]"),
        ("1,two", "--folds '1,two': give fold numbers such as 1,2"),
        ("", "--folds '': give fold numbers such as 1,2"),
    ],
)
def test_folds_that_are_not_the_runs_are_refused(
    folds: str, expected: str, config: Path, refused: Callable[..., str]
) -> None:
    assert refused("train", "config.yaml", "--folds", folds) == expected


# The table.


def csv(rows: int = 90, **columns: Callable[[int], str]) -> bytes:
    """90 rows of two classes; columns by row number."""
    cells = {"text": lambda i: f"charge number{i}", "label": lambda i: "ab"[i % 2], **columns}
    lines = [",".join(cells), *(",".join(cell(i) for cell in cells.values()) for i in range(rows))]
    return ("\n".join(lines) + "\n").encode()


GROUP = ["folds.strategy=group", "folds.group=who"]
COLUMN = ["folds.strategy=column", "folds.column=part"]
TIME = ["folds.strategy=time", "folds.time=day"]
TABLES: dict[str, tuple[str, bytes, list[str], str]] = {
    "absent": ("other.csv", b"", [], "no file matches 'table.csv' (looked from "),
    "empty": ("table.csv", b"", [], "table.csv: the file is empty: it needs a header and rows"),
    "header-only": (
        "table.csv",
        b"text,label\n",
        [],
        "table.csv: the table has a header but no rows",
    ),
    "code-page": (
        "table.csv",
        b"text,label\n\xef\xf0\xe8\xe2\xe5\xf2,a\n",
        [],
        "table.csv: isn't UTF-8, and its encoding isn't certain: save it as UTF-8, or name it "
        "under data.encoding (cp1252 reads",
    ),
    "parquet-damaged": (
        "table.parquet",
        b"PAR1 and then nothing",
        ["data.path=table.parquet"],
        "table.parquet: can't be read as Parquet: ",
    ),
    "gzip-cut-off": (
        "table.csv.gz",
        gzip.compress(csv())[:-20],
        ["data.path=table.csv.gz"],
        "table.csv.gz: damaged or cut-off gzip file (",
    ),
    "suffix": (
        "table.xlsx",
        b"PK",
        ["data.path=table.xlsx"],
        "table.xlsx: can't be read as a table; allowed: .csv, .tsv, .jsonl",
    ),
    "missing-column": (
        "table.csv",
        csv(),
        ["data.text=[texts]"],
        "table.csv: has no column 'texts'; did you mean 'text'? Its columns: 'text', 'label'",
    ),
    "missing-group-column": (
        "table.csv",
        csv(),
        GROUP,
        "table.csv: has no column 'who'; did you mean ",
    ),
    "header-twice": (
        "table.csv",
        b"text,label,text\nx,a,y\n",
        [],
        "table.csv: line 1 names column 'text' twice: rename one of them",
    ),
    "ragged-row": (
        "table.csv",
        b"text,label\nx,a\ny,z,b\n",
        [],
        "table.csv: line 3 (row 1) has 3 cells, the header has 2: put double quotes around cells",
    ),
    "not-a-number": (
        "table.csv",
        csv(amount=lambda i: "1.5" if i != 7 else "much"),
        ["data.numeric=[amount]"],
        "table.csv: column 'amount' holds 1 cells that aren't finite numbers (row 7: 'much'): "
        "correct or empty them, or give the column another role",
    ),
    "null-targets": (
        "table.csv",
        csv(label=lambda i: "" if i in (3, 5) else "ab"[i % 2]),
        [],
        "2 rows have no 'label': row 3, row 5; fill them in or take those rows out; "
        "a config drops them by data.missing.target: drop",
    ),
    "one-class": (
        "table.csv",
        csv(label=lambda i: "a"),
        [],
        "column 'label' holds a single class, 'a': nothing to learn; check data.target",
    ),
    "rare-class": (
        "table.csv",
        csv(label=lambda i: "c" if i < 2 else "ab"[i % 2]),
        [],
        "column 'label': fewer distinct texts than folds.n = 3 in class 'c' (2); set "
        "data.rare_classes to merge (into 'other'), drop or train_only, or lower folds.n",
    ),
    "texts-all-empty": (
        "table.csv",
        csv(text=lambda i: " "),
        [],
        "table.csv: column 'text' has no value in any of its 90 rows: fill it, or take it out",
    ),
    "too-few-rows-for-inner": (
        "table.csv",
        csv(rows=6),
        [],
        "selection.rows: inner finds no row to set aside in fold 1 (4 training rows)",
    ),
    "too-few-groups": (
        "table.csv",
        csv(who=lambda i: "xy"[i // 45]),
        GROUP,
        "folds.n is 3 but the rows form only 2 groups (rows that must stay together: equal 'who');",
    ),
    "fold-column": (
        "table.csv",
        csv(part=lambda i: str(i % 4)),
        COLUMN,
        "column 'part' holds 4 different folds, but folds.n is 3; set folds.n: 4",
    ),
    "time-column": (
        "table.csv",
        csv(day=lambda i: f"{i % 9 + 1}.3.2024"),
        TIME,
        "column 'day' (folds.time) holds '1.3.2024'; times are numbers or ISO 8601 dates such as "
        "2024-01-31",
    ),
    "time-column-with-gaps": (
        "table.csv",
        csv(day=lambda i: "" if i == 4 else str(i)),
        TIME,
        "column 'day' (folds.time) has 1 empty cells",
    ),
    "holdout-table-absent": (
        "table.csv",
        csv(),
        ["holdout.path=held.csv"],
        "no file matches 'held.csv'",
    ),
    "sample-too-small": (
        "table.csv",
        csv(),
        ["data.sample=2"],
        "folds.n is 3 but there are only 2 rows to split",
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_is_refused(
    case: str, here: Path, config: Path, refused: Callable[..., str]
) -> None:
    name, content, settings, expected = TABLES[case]
    (here / name).write_bytes(content)
    options = ["--set", "data.path=table.csv"]
    options += [part for setting in settings for part in ("--set", setting)]
    assert expected in refused("train", "config.yaml", *options)


# The backbone.


def test_a_backbone_that_is_nowhere_is_refused(config: Path, refused: Callable[..., str]) -> None:
    message = refused("train", "config.yaml", "--set", "model.backbone=someone/some-model")
    assert message == (
        "model.backbone: someone/some-model: it is not a folder here, no installed package carries "
        "it, and it isn't in the hub cache, and the hub can't be reached (OfflineModeIsEnabled); "
        "give model.backbone a local folder with config.json, tokenizer.json and model.safetensors"
    )
    message = refused("train", "config.yaml", "--set", "model.backbone=./models/bert")
    assert message == "model.backbone: ./models/bert: no such folder"


def spoil(folder: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)


WEIGHTS = "model.safetensors"
PICKLED = (
    "model.backbone: model holds no model.safetensors; pickled weights (.bin, .pt) can run code "
    "and are not loaded: convert them to safetensors first"
)
BACKBONES: dict[str, tuple[dict[str, bytes | None], str]] = {
    "no-weights": ({WEIGHTS: None}, PICKLED),
    "pickled-weights": ({WEIGHTS: None, "pytorch_model.bin": b"\x80"}, PICKLED),
    "cut-off-weights": (
        {WEIGHTS: b"\x10\0\0\0\0\0\0\0{"},
        "model.backbone: model/model.safetensors: isn't a sound safetensors file: Error while",
    ),
    "weights-of-another-model": (
        {WEIGHTS: save({"wte.weight": np.zeros((3, 4), dtype=np.float32)})},
        "model.backbone: the weights in model lack 37 tensors of its config.json's BertModel, such "
        "as embeddings.LayerNorm.bias; they belong to another model",
    ),
    "broken-index": (
        {WEIGHTS: None, WEIGHTS + ".index.json": b"{"},
        "model.backbone: model/model.safetensors.index.json: ",
    ),
    "no-config": ({"config.json": None}, "model.backbone: model/config.json: no such file"),
    "broken-config": (
        {"config.json": b"{"},
        "model.backbone: model/config.json: can't be read: Expecting property name",
    ),
    "config-without-type": (
        {"config.json": b"{}"},
        "model.backbone: model/config.json: not a model's config (it has no model_type)",
    ),
    "config-of-an-unknown-type": (
        {"config.json": b'{"model_type": "bart2"}'},
        "model.backbone: model/config.json: Unrecognized model identifier: bart2.",
    ),
    "config-of-another-size": (
        {"config.json": b'{"model_type": "bert", "hidden_size": 48, "num_attention_heads": 2}'},
        "model.backbone: model/config.json: describes a model of more than 1,182,000 weights, but",
    ),
    "config-with-a-wrong-value": (
        {"config.json": b'{"model_type": "bert", "hidden_size": "wide"}'},
        "model.backbone: model/config.json: Validation error for field 'hidden_size': ",
    ),
    "no-tokenizer": (
        {"tokenizer.json": None, "tokenizer_config.json": None},
        "model.backbone: model: holds no tokenizer (",
    ),
    "broken-tokenizer": (
        {"tokenizer.json": b"{"},
        "model.backbone: model/tokenizer.json: can't be read: Ex",
    ),
}


@pytest.mark.parametrize("case", BACKBONES)
def test_a_backbone_folder_is_refused(
    case: str, here: Path, backbone: Path, config: Path, refused: Callable[..., str]
) -> None:
    files, expected = BACKBONES[case]
    model = here / "model"
    model.mkdir()
    for path in backbone.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    for name, content in files.items():
        spoil(model, name, content)
    assert expected in refused("train", "config.yaml", "--set", "model.backbone=model")


# The user's code.

HEAD = "import torch\nfrom torch import nn\n"
CODE: dict[str, tuple[str, list[str], str]] = {
    "syntax-error": (
        "def f(:\n",
        ["model.pooling=parts.Max"],
        "parts.py fails when loaded: SyntaxError: invalid syntax (parts.py, line 1)",
    ),
    "error-when-loaded": (
        "import math\n\nx = math.nothing\n",
        ["model.pooling=parts.Max"],
        "parts.py fails when loaded (line 3): AttributeError: module 'math' has no attribute",
    ),
    "exit-when-loaded": (
        "raise SystemExit(0)\n",
        ["model.pooling=parts.Max"],
        "parts.py fails when loaded (line 1): SystemExit: 0",
    ),
    "no-such-class": (
        "class Min: pass\n",
        ["model.pooling=parts.Max"],
        "parts.py has no 'Max' (it has: Min)",
    ),
    "pooling-of-a-wrong-shape": (
        HEAD + "class Max(nn.Module):\n    def forward(self, states, mask): return states\n",
        ["model.pooling=parts.Max"],
        "model.pooling: Max must return (batch, width) of (batch, length, 32); it returned (2, 3, "
        "32) for a batch of 2",
    ),
    "pooling-that-fails": (
        HEAD + "class Max(nn.Module):\n    def forward(self, states): return states\n",
        ["model.pooling=parts.Max"],
        "model.pooling: Max fails on hidden states (2, 3, 32) and a mask (2, 3): TypeError",
    ),
    "pooling-argument": (
        HEAD + "class Max(nn.Module):\n    def __init__(self, p): super().__init__()\n",
        ["model.pooling={name: parts.Max, q: 1}"],
        "model.pooling: parts.Max takes no 'q'; it takes: p",
    ),
    "pooling-that-is-no-module": (
        "Max = 3\n",
        ["model.pooling=parts.Max"],
        "model.pooling: parts.Max can't be called",
    ),
    "head-of-a-wrong-width": (
        HEAD + "class Wide(nn.Linear):\n    def __init__(self): super().__init__(32, 7)\n",
        ["model.head=parts.Wide"],
        "model.head: Wide must return (batch, 3)",
    ),
    "scalar-loss": (
        HEAD + "class Mean(nn.CrossEntropyLoss): pass\n",
        ["loss.name=parts.Mean"],
        "loss.name parts.Mean: returns shape (); it must return one value a row, (2,) "
        "(reduction='none')",
    ),
    "loss-that-fails": (
        HEAD + "class Bad(nn.Module):\n    def forward(self, x, y): return {}['key']\n",
        ["loss.name=parts.Bad"],
        "loss.name parts.Bad fails on logits (2, 3) and targets (2,): KeyError: 'key'",
    ),
    "metric-that-fails": (
        "def profit(target, prediction): return 1.0\n",
        ["metrics=[parts.profit]"],
        "metrics[0]: parts.profit fails on ",
    ),
    "metric-that-returns-an-array": (
        "def profit(target, prediction, probabilities): return target\n",
        ["metrics=[parts.profit]"],
        "metrics[0]: parts.profit ",
    ),
    "task-without-methods": (
        "class Task: pass\n",
        ["task=parts.Task"],
        "task: parts.Task has no ",
    ),
    "task-that-hides-the-metric-that-decides": (
        "from foldwise.metrics.metric import builtin_metric\n"
        "from foldwise.tasks.text_classification import TextClassification\n"
        "class Task(TextClassification):\n"
        "    def metrics(self): return [builtin_metric('accuracy')]\n",
        ["task=parts.Task"],
        "selection.metric: 'f1_macro' isn't among the metrics: accuracy",
    ),
    "splitter-that-fails": (
        "class Odd:\n    def split(self, X, y, groups): raise ValueError('odd')\n",
        ["folds.strategy=parts.Odd"],
        "folds.strategy parts.Odd: split() failed: odd",
    ),
}


@pytest.mark.parametrize("case", CODE)
def test_code_is_refused(case: str, here: Path, config: Path, refused: Callable[..., str]) -> None:
    content, settings, expected = CODE[case]
    (here / "parts.py").write_text(content, "utf-8")
    options = [part for setting in settings for part in ("--set", setting)]
    assert expected in refused("train", "config.yaml", "--set", "code=[parts.py]", *options)


def test_code_that_is_absent_is_refused(
    here: Path, config: Path, refused: Callable[..., str]
) -> None:
    message = refused("train", "config.yaml", "--set", "code=[parts.py]")
    assert message == f"--set code=[parts.py]: code[0]: no such file: {here / 'parts.py'}"


# Runs.


def test_a_run_folder_in_use_by_another_process_is_refused(
    trained: RunFolder, config: Path, refused: Callable[..., str]
) -> None:
    where = f"run.dir={trained.path.parent}"
    fold = trained.fold(2).path
    with lock(fold / ".lock", "fold 2"):
        message = refused("train", "config.yaml", "--set", where)
    expected = f"fold 2 of {trained.path} is in use by process {os.getpid()} on "
    assert message.startswith(expected)
    assert message.endswith("; wait for it, or choose another run.name")


def test_a_run_name_taken_by_another_config_is_refused_with_the_keys_that_differ(
    trained: RunFolder, config: Path, refused: Callable[..., str]
) -> None:
    before = contents(trained.path)
    options = ["--set", f"run.dir={trained.path.parent}", "--set", "optimizer.lr=0.5"]
    assert refused("train", "config.yaml", *options, "--set", "model.pooling=cls") == (
        f"{trained.path} was made with another config; choose another run.name, or go back to: "
        "model.pooling.name: 'mean' -> 'cls'; optimizer.lr: 0.0003 -> 0.5"
    )
    assert contents(trained.path) == before


def test_a_run_with_other_rows_than_it_began_with_is_refused(
    trained: RunFolder, here: Path, config: Path, table_path: Path, refused: Callable[..., str]
) -> None:
    original = table_path.read_bytes()
    stores = contents(trained.token_stores)
    try:
        table_path.write_bytes(original.replace(b"refund", b"letter"))
        message = refused("train", "config.yaml", "--set", f"run.dir={trained.path.parent}")
    finally:
        table_path.write_bytes(original)
    assert message.startswith(f"{trained.path} was made with other inputs: the table's bytes have")
    assert message.endswith("; put them back, or choose another run.name")
    assert contents(trained.token_stores) == stores


@pytest.mark.parametrize(
    "command", [["validate", "."], ["predict", ".", "t.csv", "-o", "o.csv"], ["evaluate", ".", "t"]]
)
def test_a_folder_that_is_no_run_is_refused(
    command: list[str], here: Path, refused: Callable[..., str]
) -> None:
    (here / "notes.txt").write_text("mine", "utf-8")
    assert refused(*command) == ".: not a run folder (it has no config.yaml)"


def test_a_run_without_trained_fold_is_refused(
    trained: RunFolder, here: Path, refused: Callable[..., str]
) -> None:
    begun = here / "runs" / "begun"
    begun.mkdir(parents=True)
    for name in ("config.yaml", "manifest.json", "classes.json", "folds.parquet"):
        (begun / name).write_bytes((trained.path / name).read_bytes())
    (begun / "backbone").mkdir()
    for path in trained.backbone.iterdir():
        (begun / "backbone" / path.name).write_bytes(path.read_bytes())
    seal_anew(RunFolder(begun), [])
    expected = "runs/begun: no fold is trained yet"
    assert refused("predict", "runs/begun", "new.csv", "-o", "out.csv") == expected
    assert refused("validate", "runs/begun") == f"{expected}; run: foldwise train"


def test_a_run_folder_that_is_a_file_is_refused(
    here: Path, config: Path, refused: Callable[..., str]
) -> None:
    (here / "runs").mkdir()
    (here / "runs" / "bad").write_text("mine", "utf-8")
    assert refused("train", "config.yaml") == (
        "run: the run's folder is to be runs/bad, but runs/bad is a file; choose another run.dir "
        "or run.name"
    )
    assert refused("train", "config.yaml", "--set", "run.dir=runs/bad/deep").startswith(
        "run: the run's folder is to be runs/bad/deep/bad, but runs/bad is a file; "
    )


def test_other_files_under_the_run_s_name_are_refused(
    here: Path, config: Path, refused: Callable[..., str]
) -> None:
    (here / "runs" / "bad").mkdir(parents=True)
    (here / "runs" / "bad" / "thesis.tex").write_text("mine", "utf-8")
    assert refused("train", "config.yaml") == (
        "runs/bad holds other files than a run's ('thesis.tex'); choose another run.name"
    )


def test_a_run_whose_config_is_gone_is_not_taken_for_other_files(
    here: Path, config: Path, refused: Callable[..., str]
) -> None:
    (here / "runs" / "bad").mkdir(parents=True)
    (here / "runs" / "bad" / "folds.parquet").write_bytes(b"")
    assert refused("train", "config.yaml") == (
        "runs/bad/config.yaml: is gone, though runs/bad holds a run; put it back from a copy, or "
        "remove runs/bad to begin anew"
    )


PREDICTIONS: dict[str, tuple[list[str], str]] = {
    "missing-column": (
        ["other.csv", "-o", "out.csv"],
        "other.csv: has no column 'text'; did you mean 'txt'? Its columns: 'txt'",
    ),
    "output-exists": (
        ["new.csv", "-o", "other.csv"],
        "-o other.csv: is there already; choose another name or remove it",
    ),
    "output-suffix": (
        ["new.csv", "-o", "out.xlsx"],
        "-o out.xlsx: the file's name must end in .parquet, .csv or .jsonl",
    ),
    "output-folder": (
        ["new.csv", "-o", "results/out.csv"],
        "-o results/out.csv: there is no folder results",
    ),
    "table-absent": (["no.csv", "-o", "out.csv"], "no file matches 'no.csv'"),
    "fold-not-trained": (
        ["new.csv", "-o", "out.csv", "--folds", "2"],
        "fold 2 isn't trained; trained are: [1]",
    ),
    "no-fold-number": (
        ["new.csv", "-o", "out.csv", "--folds", "one"],
        "--folds 'one': give fold numbers such as 1,2",
    ),
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_a_prediction_is_refused(
    case: str, trained: RunFolder, here: Path, refused: Callable[..., str]
) -> None:
    (here / "new.csv").write_text("text\ncharge\n", "utf-8")
    (here / "other.csv").write_text("txt\ncharge\n", "utf-8")
    arguments, expected = PREDICTIONS[case]
    assert expected in refused("predict", str(trained.path), *arguments)


def test_rows_without_label_cannot_be_evaluated(
    trained: RunFolder, here: Path, refused: Callable[..., str]
) -> None:
    (here / "new.csv").write_text("text,label\ncharge,card\nfee,\n", "utf-8")
    assert refused("evaluate", str(trained.path), "new.csv").startswith(
        "1 rows have no 'label': row 1"
    )


def test_code_in_a_run_folder_is_not_run_unasked(
    trained: RunFolder, here: Path, refused: Callable[..., str]
) -> None:
    run = here / "runs" / "theirs"
    (run / "code").mkdir(parents=True)
    (run / "code" / "parts.py").write_text("raise SystemExit('run')\n", "utf-8")
    text = (trained.path / "config.yaml").read_text("utf-8")
    (run / "config.yaml").write_text(text.replace("code: []", "code: [code/parts.py]"), "utf-8")
    for name in ("manifest.json", "classes.json", "folds.parquet"):
        (run / name).write_bytes((trained.path / name).read_bytes())
    seal_anew(RunFolder(run), [])
    message = (
        f"{run} holds Python files of its own (parts.py) that would be run; read them, then "
        "give --trust-code"
    )
    assert refused("validate", str(run)) == message
    assert refused("evaluate", str(run), "new.csv") == message


def test_a_folder_that_can_not_be_written_to_is_refused(
    trained: RunFolder,
    here: Path,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
) -> None:
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK and allowed(path, mode))
    assert refused("train", "config.yaml") == ("run: . can't be written to; choose another run.dir")
    assert refused("predict", str(trained.path), "new.csv", "-o", "out.csv") == (
        "-o out.csv: . can't be written to"
    )


def test_an_archive_that_is_absent_is_refused(here: Path, refused: Callable[..., str]) -> None:
    assert "no.zip" in refused("data", "cfpb", "--archive", "no.zip", "--to", "data")


# Stopped through no fault of the input.


@pytest.fixture
def run_main(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int | str | None, str]]:
    """Run a command in this process; return its exit code and what it wrote to stderr."""

    def run(*arguments: str) -> tuple[int | str | None, str]:
        monkeypatch.setattr(sys, "argv", ["foldwise", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr().err

    return run


def fail(error: BaseException) -> Callable[..., None]:
    def raising(*_: Any, **__: Any) -> None:
        raise error

    return raising


FULL = "Error while serializing: I/O error: No space left on device (os error 28)"
NO_SPACE = "free some and give the same command again\n"


@pytest.mark.parametrize(
    ("place", "error", "expected"),
    [
        (
            "foldwise.run.folder.os.replace",
            OSError(errno.ENOSPC, "No space left on device", "x/y.json"),
            r"stopped: \S+: no space left on the disk: [\d,]+ bytes are needed, [\d,]+ bytes are "
            f"free; {NO_SPACE}",
        ),
        (
            "safetensors.torch.save_file",
            SafetensorError(FULL),
            r"stopped: \S+/step-\d+: no space left on the disk: [\d,]+ bytes are needed, [\d,]+ "
            f"bytes are free; {NO_SPACE}",
        ),
    ],
)
def test_a_full_disk_stops_the_run_with_one_line_and_the_same_command_goes_on(
    place: str,
    error: Exception,
    expected: str,
    here: Path,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_main: Callable[..., tuple[int, str]],
) -> None:
    command = ("train", "config.yaml", "--folds", "1")
    with monkeypatch.context() as full:
        full.setattr(place, fail(error))
        code, message = run_main(*command)
    assert code == 1
    assert re.fullmatch(expected, f"{message.splitlines()[-1]}\n")
    assert "Traceback" not in message
    assert [path for path in contents(here) if path.endswith(".tmp")] == []
    assert run_main(*command)[0] == 0
    assert (here / RUN / "fold-1" / "validation.json").exists()


def test_a_full_disk_leaves_no_part_of_the_predictions(
    trained: RunFolder,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_main: Callable[..., tuple[int, str]],
) -> None:
    (here / "new.csv").write_text("text\ncharge\n", "utf-8")

    def half(frame: object, path: Path, **_: object) -> None:
        path.write_text("row,pred", "utf-8")
        raise OSError("No space left on device (os error 28)")

    monkeypatch.setattr("polars.DataFrame.write_csv", half)
    code, message = run_main("predict", str(trained.path), "new.csv", "-o", "out.csv")
    assert code == 1
    part = r"\.out\.csv\.parts/00000000\.csv"
    told = rf"stopped: {part}: no space left on the disk: [\d,]+ bytes are free; "
    assert re.fullmatch(told + NO_SPACE, message)
    assert list(contents(here)) == ["new.csv"]


def test_ctrl_c_and_a_kill_end_with_the_number_of_the_signal(
    config: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., tuple[int, str]]
) -> None:
    monkeypatch.setattr("foldwise.workflow.train_fold", fail(KeyboardInterrupt()))
    code, message = run_main("train", "config.yaml")
    assert code == 130
    assert message.endswith("\nstopped: give the same command again to go on\n")

    def killed(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("foldwise.workflow.train_fold", killed)
    assert run_main("train", "config.yaml")[0] == 143


def test_a_stopped_run_gives_the_terminal_its_cursor_back(
    config: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., tuple[int, str]]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    error = RunInterrupted("fold 1, epoch 1, step 2: the loss is nan")
    monkeypatch.setattr("foldwise.training.loop._check_finite", fail(error))
    code, message = run_main("train", "config.yaml")
    assert code == 1
    assert message.rindex("\x1b[?25h") > message.rindex("\x1b[?25l")
    assert message.endswith("stopped: fold 1, epoch 1, step 2: the loss is nan\n")


# In a process of its own, as a user runs it.


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "no.yaml"], "error: no.yaml: no such file; give the path of a YAML config\n"),
        (
            ["train", "config.yaml", "--set", "training.epochs=0"],
            "error: --set training.epochs=0: training.epochs: must be a whole number of 1 or more, "
            "or auto, got 0\n",
        ),
        (
            ["train", "config.yaml", "--set", "data.text=[texts]"],
            "error: {table}: has no column 'texts'; did you mean 'text'? Its columns: 'text', "
            "'kind', 'amount', 'label'\n",
        ),
        (["validate", "runs"], "error: runs: not a run folder (it has no config.yaml)\n"),
    ],
)
def test_a_process_prints_nothing_but_the_message(
    arguments: list[str], expected: str, here: Path, config: Path, table_path: Path
) -> None:
    before = contents(here)
    done = subprocess.run([*FOLDWISE, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == expected.format(table=table_path)
    assert contents(here) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train"], "Missing argument 'CONFIG'."),
        (["train", "config.yaml", "--fold", "1"], "No such option: --fold"),
        (["trian", "config.yaml"], "No such command 'trian'."),
        (["predict", "runs/bad", "new.csv"], "Missing option '--out' / '-o'."),
    ],
)
def test_a_usage_error_exits_with_2_and_says_what_is_missing(
    arguments: list[str], expected: str, here: Path, run_main: Callable[..., tuple[int, str]]
) -> None:
    code, message = run_main(*arguments)
    assert code == 2
    assert expected in message
    assert "Traceback" not in message
