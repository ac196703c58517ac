"""What load_config accepts, what it refuses, and the exact words it refuses it with."""

import os
import string
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from foldwise.config.grammar import Part
from foldwise.config.load import diff_configs, dump_config, load_config, load_stored
from foldwise.config.model import Head
from foldwise.config.rows import PerClass
from foldwise.config.schema import Config
from foldwise.config.training import Average
from foldwise.config.yaml_reader import MAX_VALUES
from foldwise.errors import FoldwiseError

GOOD = """\
run: {name: small}
data:
  path: synthetic
  target: Product
  text: [Narrative]
"""
FULL = """\
run: {name: full, dir: runs, seed: 7}
task: multiclass
data:
  path: synthetic:200
  target: Product
  text: [Narrative]
  categorical: [Issue, ZIP code]
  numeric: [Age]
  sample: {per_class: 5}
  missing: {text: fill, categorical: drop, numeric: zero, target: drop}
  rare_classes: merge
holdout: {fraction: 0.2}
folds: {strategy: group, group: Company, n: 3, run: [1, 3]}
selection: {rows: fold, metric: loss}
text: {max_length: 64, long: head_tail}
model:
  backbone: some/model
  pooling: {name: my_parts.Pooling, size: 8}
  head: {hidden: [16], dropout: 0.5}
loss: {name: cross_entropy, class_weights: {A: 2, 7: 0.5}, label_smoothing: 0.1}
optimizer: {name: torch.optim.RAdam, lr: 1e-3, eps: 1E-6}
schedule: constant
training: {epochs: 1, batch_size: 4}
metrics: [accuracy, {name: my_parts.cost, weight: 3}]
baselines: FALSE
trackers: []
"""
METRICS = (
    "f1_macro, f1_micro, f1_weighted, precision_macro, precision_micro, precision_weighted, "
    "recall_macro, recall_micro, recall_weighted, accuracy, balanced_accuracy, log_loss, "
    "auroc_macro, auroc_weighted, mcc"
)
OTHER_METRICS = (  # of other tasks than multiclass
    "f1_samples, precision_samples, recall_samples, subset_accuracy, hamming_loss, mae, "
    "quadratic_kappa, spearman, rmse, r2, pearson"
)
DATA_KEYS = (
    "path, target, separator, order, text, categorical, numeric, sample, missing, rare_classes"
)
TOP_KEYS = (
    "extends, run, code, task, data, holdout, folds, selection, text, model, loss, optimizer, "
    "schedule, training, metrics, ensemble, calibration, thresholds, baselines, trackers, sweep"
)
TRAINING_KEYS = (
    "epochs, batch_size, tokens_per_batch, accumulate, shares, shard, precision, clip, "
    "evaluate_every, patience, average, seeds, adversarial, save_minutes, keep, log_every, "
    "bucketing, workers, device"
)
MODEL_KEYS = (
    "backbone, revision, freeze, pooling, layers, embedding, fusion, tabular, head, "
    "attention_dropout, attention, lora, quantize, checkpoint_activations"
)
FOLDS_KEYS = "strategy, n, run, group, time, column, repeats, duplicates, similarity, seed"
SAMPLE = "rows (1 or more), a fraction above 0 and below 1, {per_class: n}, or null"
RUN_NAME = "text of at most 100 letters, digits, '.', '_', '-', the first a letter or digit"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str | bytes, name: str = "config.yaml") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


def load(text: str | bytes, *overrides: str) -> Config:
    return load_config(write(text), overrides)


def message(text: str | bytes, *overrides: str) -> str:
    with pytest.raises(FoldwiseError) as caught:
        load(text, *overrides)
    return str(caught.value)


def test_a_small_config_gets_the_defaults_of_the_schema() -> None:
    assert load(GOOD) == Config.model_validate(
        {
            "run": {"name": "small"},
            "data": {"path": "synthetic", "target": "Product", "text": ["Narrative"]},
        }
    )


def test_every_kind_of_value_arrives_with_its_type() -> None:
    config = load(FULL)
    assert config.data.sample == PerClass(per_class=5)
    assert config.folds.run == [1, 3]
    assert config.model.pooling == Part.model_validate({"name": "my_parts.Pooling", "size": 8})
    assert config.model.head == Head(hidden=[16], dropout=0.5)
    assert config.loss.class_weights == {"A": 2.0, "7": 0.5}
    assert (config.optimizer.lr, config.optimizer.arguments) == (1e-3, {"eps": 1e-6})
    assert config.schedule.name == "constant"
    assert [(m.name, m.arguments) for m in config.metrics] == [
        ("accuracy", {}),
        ("my_parts.cost", {"weight": 3}),
    ]
    assert config.baselines is False


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-5", 1e-5),
        ("1E4", 1e4),
        ("-2e3", -2e3),
        ("+.5", 0.5),
        ("3.", 3.0),
        ("7", 7),
        ("-0", 0),
        (".inf", float("inf")),
        ("-.INF", -float("inf")),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
    ],
)
def test_yaml_scalar_is_read_as(written: str, value: object) -> None:
    read = load(f"{GOOD}schedule: {{name: my.S, x: {written}}}\n").schedule.arguments["x"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "written",
    [
        "no",
        "yes",
        "on",
        "off",
        "y",
        "N",
        "00501",
        "-012",
        "01.5",
        "01e5",
        "0o17",
        "0x1f",
        "0b1",
        "1_000",
        "1:30",
        "190:20:30.15",
        "2020-01-01",
        "2001-12-14t21:59:43.10-05:00",
        "1e",
        "=",
    ],
)
def test_yaml_scalar_stays_text(written: str) -> None:
    assert (
        load(f"{GOOD}schedule: {{name: my.S, x: {written}}}\n").schedule.arguments["x"] == written
    )


def test_keys_are_text_as_written() -> None:
    text = f"{GOOD}loss: {{class_weights: {{00501: 1, 7: 2, 1.0: 3, no: 4, null: 5, true: 6}}}}\n"
    weights = {"00501": 1, "7": 2, "1.0": 3, "no": 4, "null": 5, "true": 6}
    assert load(text).loss.class_weights == weights


# Each line of `expected` follows "config.yaml:" and the whole message is compared.
BAD = [
    # misspelled keys at every depth
    ("trainin: {}\n", f"6: trainin: unknown key; did you mean 'training'? (valid: {TOP_KEYS})"),
    ("extend: a.yaml\n", f"6: extend: unknown key; did you mean 'extends'? (valid: {TOP_KEYS})"),
    (
        "batch_size: 3\n",
        "6: batch_size: unknown key; did you mean 'training.batch_size'? "
        f"(valid: {TOP_KEYS})",
    ),
    ("xyzzy: 1\n", f"6: xyzzy: unknown key (valid: {TOP_KEYS})"),
    (
        "model:\n  poolng: mean\n",
        f"7: model.poolng: unknown key; did you mean 'pooling'? (valid: {MODEL_KEYS})",
    ),
    (
        "training: {lr: 1}\n",
        f"6: training.lr: unknown key; did you mean 'optimizer.lr'? (valid: {TRAINING_KEYS})",
    ),
    (
        "  missing:\n    txt: drop\n",
        "7: data.missing.txt: unknown key; did you mean 'text'? "
        "(valid: text, categorical, numeric, target)",
    ),
    (
        "  sample: {per_clas: 3}\n",
        "6: data.sample.per_class: is missing; give a whole number of 1 or more\n"
        "6: data.sample.per_clas: unknown key; did you mean 'per_class'? (valid: per_class)",
    ),
    (
        "model:\n  head:\n    hiden: [3]\n",
        "8: model.head.hiden: unknown key; did you mean 'hidden'? (valid: hidden, dropout, "
        "activation, norm, samples)",
    ),
    ("holdout: {fractoin: 0.1}\n", "6: holdout.fractoin: unknown key; did you mean 'fraction'? "
     "(valid: fraction, path)"),
    # misspelled keys of built-in parts
    (
        "loss: {smoothing: 0.1}\n",
        "6: loss.smoothing: unknown key; did you mean 'label_smoothing'? "
        "(valid: name, class_weights, label_smoothing)",
    ),
    (
        "optimizer: {lrr: 0.1, decay: 0}\n",
        "6: optimizer.lrr: unknown key; did you mean 'lr'? "
        "(valid: name, lr, head_lr, weight_decay, layer_decay, betas, eps)\n"
        "6: optimizer.decay: unknown key; did you mean 'layer_decay'? "
        "(valid: name, lr, head_lr, weight_decay, layer_decay, betas, eps)",
    ),
    (
        "schedule: {name: wsd, power: 2}\n",
        "6: schedule.power: unknown key (valid: name, warmup, decay)",
    ),
    (
        "schedule: {name: linear, warm: 0.1}\n",
        "6: schedule.warm: unknown key; did you mean 'warmup'? (valid: name, warmup)",
    ),
    ("folds: {strategy: {name: kfold, x: 1}}\n", "6: folds.strategy.x: unknown key (valid: name)"),
    ("metrics: [accuracy, {name: mcc, nam: 1}]\n", "6: metrics[1].nam: unknown key; did you mean "
     "'name'? (valid: name)"),
    # unknown names of parts
    (
        "model: {pooling: maen}\n",
        "6: model.pooling: unknown name 'maen'; did you mean 'mean'? "
        "(built in: mean, cls, max, mean_max, attention, queries, last; others are dotted: "
        "my_parts.Name)",
    ),
    (
        "model:\n  pooling:\n    name: maen\n",
        "8: model.pooling.name: unknown name 'maen'; did you mean 'mean'? "
        "(built in: mean, cls, max, mean_max, attention, queries, last; others are dotted: "
        "my_parts.Name)",
    ),
    (
        "model: {head: mlp}\n",
        "6: model.head: unknown name 'mlp' (others are dotted: my_parts.Name)",
    ),
    (
        "optimizer: Adam\n",
        "6: optimizer: unknown name 'Adam'; did you mean 'adamw'? "
        "(built in: adamw, adamw_8bit, paged_adamw, paged_adamw_8bit; others are dotted: "
        "my_parts.Name)",
    ),
    (
        "task: multiclas\n",
        "6: task: unknown name 'multiclas'; did you mean 'multiclass'? "
        "(built in: multiclass, multilabel, ordinal, regression; others are dotted: my_parts.Name)",
    ),
    (
        "metrics: [f1]\n",
        "6: metrics[0]: unknown name 'f1' "
        f"(built in: {METRICS}, {OTHER_METRICS}; others are dotted: my_parts.Name)",
    ),
    (
        "selection: {metric: f1_marco}\n",
        "6: selection.metric: unknown metric 'f1_marco'; did you mean 'f1_macro'? "
        f"(valid: loss, {METRICS})",
    ),
    (
        "selection: {metric: my_parts.cost}\n",
        "6: selection.metric: unknown metric 'my_parts.cost'; list it under metrics first "
        f"(valid: loss, {METRICS})",
    ),
    # wrong types: no coercion
    ("training: {epochs: abc}\n", "6: training.epochs: must be a whole number of 1 or more, "
     "or auto, got 'abc'"),
    ("training: {epochs: '5'}\n", "6: training.epochs: must be a whole number of 1 or more, "
     "or auto, got '5'; write a plain number, without quotes"),
    ("training: {epochs: 1_0}\n", "6: training.epochs: must be a whole number of 1 or more, "
     "or auto, got '1_0'; write a plain number, without quotes"),
    ("training: {epochs: true}\n", "6: training.epochs: must be a whole number of 1 or more, "
     "or auto, got true"),
    ("training: {epochs: 5.0}\n", "6: training.epochs: must be a whole number of 1 or more, "
     "or auto, got 5.0; write 5"),
    ("training: {epochs: 2.5}\n", "6: training.epochs: must be a whole number of 1 or more, "
     "or auto, got 2.5"),
    ("training: {epochs:}\n", "6: training.epochs: must be a whole number of 1 or more, "
     "or auto, got null"),
    ("training: {epochs: 0}\n", "6: training.epochs: must be a whole number of 1 or more, "
     "or auto, got 0"),
    ("training: {batch_size: 0}\n", "6: training.batch_size: must be a whole number of 1 or more, "
     "or null, got 0"),
    ("training: {bucketing: yes}\n", "6: training.bucketing: must be true or false, got 'yes'"),
    ("training: {clip: .inf}\n", "6: training.clip: must be a number above 0, or null, got inf"),
    ("training: [1]\n", "6: training: must be a map, got [1]"),
    ("optimizer: {lr: true}\n", "6: optimizer.lr: must be a number above 0, auto or "
     "range_test, got true"),
    ("optimizer: {lr: 1e-3x}\n", "6: optimizer.lr: must be a number above 0, auto or "
     "range_test, got '1e-3x'"),
    ("optimizer: 3\n", "6: optimizer: must be adamw, adamw_8bit, paged_adamw, "
     "paged_adamw_8bit, a dotted name, or a map of name and arguments, got 3"),
    ("  categorical: [2020]\n", "6: data.categorical[0]: must be text, got 2020; quote it"),
    ("  categorical: ZIP\n", "6: data.categorical: must be a list of texts, got 'ZIP'; "
     "write [ZIP]"),
    ("  categorical: ['']\n", "6: data.categorical[0]: must be text, got ''; it can't be empty"),
    ("  sample: 1.0\n", f"6: data.sample: must be {SAMPLE}, got 1.0"),
    ("  sample: true\n", f"6: data.sample: must be {SAMPLE}, got true"),
    ("  sample: [1]\n", f"6: data.sample: must be {SAMPLE}, got [1]"),
    ("  sample: {per_class: x}\n", "6: data.sample.per_class: must be a whole number of 1 or "
     "more, got 'x'"),
    ("  rare_classes: merg\n", "6: data.rare_classes: must be one of error, merge, drop, "
     "train_only, got 'merg'; did you mean 'merge'?"),
    ("model: {fusion: concta}\n", "6: model.fusion: unknown name 'concta'; did you mean 'concat'? "
     "(built in: text, concat, gated, tokens; others are dotted: my_parts.Name)"),
    ("model: {pooling: {name: queries, queries: 0}}\n", "6: model.pooling.queries: must be a whole "
     "number of 1 or more, got 0"),
    ("model: {pooling: {name: queries, units: true}}\n", "6: model.pooling.units: must be a whole "
     "number of 1 or more, got true"),
    ("model: {pooling: {name: queries, size: 2}}\n", "6: model.pooling.size: unknown key "
     "(valid: name, queries, units)"),
    ("text: {long: chunks, chunk_pooling: {name: queries, units: 2.5}}\n", "6: "
     "text.chunk_pooling.units: must be a whole number of 1 or more, got 2.5"),
    ("model: {fusion: concat}\n", "6: model.fusion: concat needs columns under data.categorical or "
     "data.numeric; set it to text"),
    ("  categorical: [z]\nmodel: {fusion: {name: gated, size: 0}}\n", "7: model.fusion.size: must "
     "be a whole number of 1 or more, got 0"),
    ("  categorical: [z]\nmodel: {tabular: {categorical: {max_size: 8}}}\n", "7: "
     "model.tabular.categorical: does nothing where model.fusion is text: all columns are in the "
     "template"),
    ("  categorical: [z]\nmodel: {fusion: concat, tabular: {numeric: {size: 8}}}\n", "7: "
     "model.tabular.numeric: does nothing without columns under data.numeric"),
    ("  categorical: [z]\nmodel: {fusion: concat, tabular: {prefixes: {y: 3}}}\n", "7: "
     "model.tabular.prefixes.y: column 'y' isn't listed under data.categorical"),
    ("  numeric: [z]\nmodel: {fusion: concat, tabular: {numeric: {sigma: 1.0}}}\n", "7: "
     "model.tabular.numeric.sigma: is only used by embedding periodic; leave it out"),
    ("model: {lora: {r: 0}}\n", "6: model.lora.r: must be a whole number of 1 or more, got 0"),
    (
        "model: {lora: {rank: 8}}\n",
        "6: model.lora.rank: unknown key (valid: r, alpha, dropout, targets, variant)",
    ),
    (
        "model:\n  freeze: 1\n  lora: {}\n",
        "7: model.freeze: does nothing with lora, which leaves the whole backbone as it is; set it "
        "to 0",
    ),
    (
        "model:\n  quantize: 4bit\n",
        "7: model.quantize: needs lora: weights in 4bit can't learn; add lora: {r: 16}",
    ),
    (
        "model:\n  quantize: 8bit\n  lora: {variant: dora}\n",
        "7: model.quantize: 8bit can't be combined with dora, whose norms bitsandbytes loses; use "
        "4bit",
    ),
    ("model: {head: 3}\n", "6: model.head: must be a map of layer settings, or a part of your "
     "own such as my_parts.Head, got 3"),
    ("model: {head: {hidden: [3, x]}}\n", "6: model.head.hidden[1]: must be a whole number of 1 "
     "or more, got 'x'"),
    ("folds: {run: 2}\n", "6: folds.run: must be 'all', or a list, not empty, of whole numbers of "
     "1 or more, got 2; write [2]"),
    ("folds: {run: []}\n", "6: folds.run: must be 'all', or a list, not empty, of whole numbers "
     "of 1 or more, got []"),
    ("folds: {run: [1, 0]}\n", "6: folds.run[1]: must be a whole number of 1 or more, got 0"),
    ("schedule: {name: my.S, warmup: 0.2}\n", "6: schedule.warmup: is only used by the built-in "
     "schedules, not by my.S; leave it out"),
    ("selection: {rows: last}\ntraining: {patience: 2}\n", "7: training.patience: does nothing "
     "where selection.rows is last: nothing is evaluated in training"),
    ("schedule: plateau\nselection: {rows: last}\n", "6: schedule: plateau does nothing where "
     "selection.rows is last: nothing is evaluated in training"),
    ("schedule: {name: plateau, patience: 3}\ntraining: {patience: 3}\n", "7: training.patience: "
     "would stop before the plateau schedule (patience 3) lowers the rate; raise it"),
    ("schedule: {name: plateau, patience: 1.5, factor: 1}\n", "6: schedule.factor: must be a "
     "number above 0 and below 1, got 1\n6: schedule.patience: must be a whole number of 1 or "
     "more, got 1.5"),
    ("schedule: {name: polynomial, power: 0}\n", "6: schedule.power: must be a number above 0, "
     "got 0"),
    ("schedule: {name: wsd, decay: x}\n", "6: schedule.decay: must be a number above 0 and below "
     "1, got 'x'"),
    ("schedule: {name: wsd, decay: 0.95}\n", "6: schedule.decay: with a warmup of 0.1 is more "
     "than all the steps; lower one of them"),
    ("training: {average: {ema: 0.9, swa: 0.5}}\n", "6: training.average: give either ema or swa"),
    ("training: {average: {}}\n", "6: training.average: give either ema or swa"),
    ("training: {average: 0.999}\n", "6: training.average: must be a map, or null, got 0.999"),
    ("training: {average: {ema: 1}}\n", "6: training.average.ema: must be a number above 0 and "
     "below 1, or null, got 1"),
    ("training:\n  average: {swa: 0.5}\n  patience: 2\n", "8: training.patience: could stop "
     "before swa begins to average; set it to null, or average by ema"),
    ("folds: {similarity: 2}\n", "6: folds.similarity: must be a number from 0.5 to 1, got 2"),
    ("folds: {seed: 4294967296}\n", "6: folds.seed: must be a whole number from 0 to 4294967295, "
     "got 4294967296"),
    ("loss: {class_weights: sqr}\n", "6: loss.class_weights: must be one of auto, none, sqrt, "
     "balanced, effective, or a map of label to a number above 0, got 'sqr'; did you mean 'sqrt'?"),
    ("loss:\n  class_weights:\n    A: 1\n    B b: -1\n", "9: loss.class_weights.B b: must be a "
     "number above 0, got -1"),
    ("metrics: []\n", "6: metrics: must be a list, not empty, of metrics: names, or maps of name "
     "and arguments, got []"),
    ("metrics: [{weight: 3}]\n", "6: metrics[0].name: is missing; give text"),
    ("trackers: [neptune]\n", "6: trackers[0]: unknown name 'neptune' (built in: tensorboard, "
     "mlflow, wandb; others are dotted: my_parts.Name)"),
    ("trackers: [tensorboard, tensorboard]\n", "6: trackers[1]: tensorboard is listed twice"),
    ("text: {stride: 8}\n", "6: text.stride: is only used by text.long: chunks, not truncate"),
    ("text:\n  long: head_tail\n  chunk_pooling: max\n", "8: text.chunk_pooling: is only used by "
     "text.long: chunks, not head_tail"),
    # checks of several keys
    ("  categorical: [Narrative]\n", "6: data.categorical[0]: column 'Narrative' is listed under "
     "text already"),
    ("holdout: {}\n", "6: holdout: give either fraction or path"),
    ("folds: {strategy: time}\n", "6: folds.time: is needed by strategy time: a column's name"),
    ("folds: {column: Fold}\n", "6: folds.column: is only used by strategy column, not "
     "stratified"),
    ("folds: {run: [2, 2]}\n", "6: folds.run: lists a fold twice"),
    ("folds: {strategy: time, time: t, group: g, repeats: 2}\n", "6: folds.group: can't be kept "
     "by strategy time\n6: folds.repeats: must be 1: strategy time gives the same folds each "
     "time"),
    ("loss: {name: torch.nn.MultiMarginLoss, label_smoothing: 0.1}\n", "6: loss.label_smoothing: "
     "is only used by cross_entropy, logit_adjustment, r_drop, not torch.nn.MultiMarginLoss; set "
     "it to 0"),
    ("training:\n  batch_size: 3\n  tokens_per_batch: 64\n", "8: training.tokens_per_batch: give "
     "batch_size or tokens_per_batch, and set the other to null"),
    ("training: {shard: true}\nmodel: {lora: {r: 4}, quantize: 4bit}\n", "7: model.quantize: "
     "quantized weights can't be cut in parts (training.shard); leave one of them out"),
    ("training: {shard: true}\noptimizer: {name: adamw_8bit, lr: range_test}\n", "7: "
     "optimizer.name: adamw_8bit can't update parts of tensors (training.shard); use adamw\n7: "
     "optimizer.lr: range_test trains the whole model in one process, which training.shard is not "
     "for; give a rate, or auto"),
    ("training: {adversarial: 1, shard: true}\nmodel: {freeze: 1}\n", "6: training.shard: cuts "
     "the word embeddings in parts, and training.adversarial moves them; leave one of the two out\n"
     "7: model.freeze: freezes the word embeddings, and training.adversarial moves them; leave one "
     "of the two out"),
    ("metrics: [mcc, mcc]\n", "6: metrics[1]: mcc is listed twice"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_bad_config_is_refused_with(text: str, expected: str) -> None:
    assert message(GOOD + text).split("\n") == [f"config.yaml:{e}" for e in expected.split("\n")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ": the file is empty; start with `run:`, `data:`"),
        ("# nothing\n", ": the file is empty; start with `run:`, `data:`"),
        ("---\n...\n", ": the file is empty; start with `run:`, `data:`"),
        ("- 1\n", ":1: a config is a map of keys such as `run:`, not [1]"),
        ("text\n", ":1: a config is a map of keys such as `run:`, not 'text'"),
        (b"a: 1\nb: \xff\n", ":2: isn't UTF-8 text; save it as UTF-8"),
        (b"a: 1\nb: \x07\n", ":2: the character '\\x07' can't stand in YAML; remove it"),
        (f"{GOOD}---\na: 1\n", ":6: a second document starts here; a config is one"),
        ("run:\n\tname: x\n", ":2:1: a tab can't indent a line or start a value; use spaces"),
        ("run: 'x\n", ":2:1: the quote opened on line 1 is not closed"),
        ("run: [1,\n 2\n", ":3:1: the list opened with '[' on line 1 lacks a ',' or its ']'"),
        ("run: {a: 1\n", ":2:1: the map opened with '{' on line 1 lacks a ',' or its '}'"),
        ("run: @x\n", ":1:6: text can't start with '@'; quote it"),
        (
            "run: a: b\n",
            ":1:7: a ':' can't stand here: check the indentation, and quote text with ': '",
        ),
        (
            "run:\n    a: 1\n  b: 2\n",
            ":3:3: doesn't fit the block that starts on line 1: check the indentation, and the "
            "quotes and brackets before it",
        ),
        ("run\nb: 1\n", ":2:2: a ':' can't stand here: check the indentation, and quote text "
         "with ': '"),
        ("a: 1\nbc\n", ":3:1: a ':' is missing after the key on line 2"),
        ('a: "\\d"\n', ":1:6: a backslash in \"...\" is not an escape that YAML knows; use single "
         "quotes"),
        ("a: " + "[" * 3000, ":1: nested more than 20 levels deep"),
        ("{a: " * 3000, ":1: nested more than 20 levels deep"),
        (
            "a: [" + "1, " * 20_000 + "]",
            f":1: holds more than {MAX_VALUES} keys and values; a config is a few lines of YAML",
        ),
        ("#" * 1_000_001, ": is larger than 1 MB; a config is a few lines of YAML"),
    ],
)  # fmt: skip
def test_unreadable_file_is_refused_with(text: str | bytes, expected: str) -> None:
    assert message(text) == f"config.yaml{expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("baselines: true\nbaselines: false\n", "7: baselines: is given twice, first on line 6"),
        ("training: {epochs: 1, epochs: 1}\n", "6: training.epochs: is given twice, first on "
         "line 6"),
        ("text: &t {max_length: 9}\nmodel: *t\n", "7: model: the alias *t isn't read; write the "
         "value out, or use extends"),
        ("text: {<<: {max_length: 9}}\n", "6: text: merging with << isn't read; use extends, or "
         "write the keys out"),
        ("task: !!python/object/apply:os.system [ls]\n", "6: task: the tag "
         "!!python/object/apply:os.system isn't read; write a plain value"),
        ("task: !foo x\n", "6: task: the tag !foo isn't read; write a plain value"),
        ("text: {? [a] : 1}\n", "6: text: a key must be text, not a list or a map"),
        ("text:\n  ?\n  : 1\n", "7: text: a key is missing before ':'"),
        ("text: {max_length: " + "1" * 5000 + "}\n", "6: text.max_length: a number of more than "
         "40 digits; quote it if it is text"),
        ('loss: {class_weights: {"\\ud800": 1}}\n', "6: loss.class_weights.'\\ud800': half of a "
         "surrogate pair isn't text; write the character itself"),
        ('task: "\\ud800"\n', "6: task: half of a surrogate pair isn't text; write the character "
         "itself"),
    ],
)  # fmt: skip
def test_yaml_trap_is_refused_with(text: str, expected: str) -> None:
    assert message(GOOD + text) == f"config.yaml:{expected}"


def test_alias_bomb_is_refused_without_expanding_it() -> None:
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 10)]
    started = time.perf_counter()
    text = message("l0: &l0 [x]\n" + "\n".join(levels))
    assert "config.yaml:2: l1[0]: the alias *l0 isn't read" in text
    assert time.perf_counter() - started < 1


def test_all_problems_come_at_once_and_none_that_only_follows_from_another() -> None:
    text = """\
run: {nam: x}
data:
  path: synthetic
  text: [2020]
folds: {strategy: grup, group: A, n: 1}
holdout: {fraction: 3}
training: {epochs: no}
training: {}
metrics: [f1_macr]
selection: {metric: my.metric}
"""
    assert [line.split(";")[0] for line in message(text, "optimizer.lr=0").split("\n")] == [
        "config.yaml:1: run.name: is missing",
        "config.yaml:1: run.nam: unknown key",
        "config.yaml:2: data.target: is needed by task multiclass",
        "config.yaml:4: data.text[0]: must be text, got 2020",
        "config.yaml:5: folds.n: must be a whole number from 2 to 1000, got 1",
        "config.yaml:5: folds.strategy: unknown name 'grup'",
        "config.yaml:6: holdout.fraction: must be a number above 0 and below 1, or null, got 3",
        "config.yaml:7: training.epochs: must be a whole number of 1 or more, or auto, got 'no'",
        "config.yaml:8: training: is given twice, first on line 7",
        "config.yaml:9: metrics[0]: unknown name 'f1_macr'",
        "--set optimizer.lr=0: optimizer.lr: must be a number above 0, auto or range_test, got 0",
    ]


def test_a_config_without_run_and_data_is_told_what_it_needs() -> None:
    assert message("baselines: true\n").split("\n") == [
        f"config.yaml:1: run.name: is missing; give {RUN_NAME}",
        "config.yaml:1: data.path: is needed by task multiclass",
        "config.yaml:1: data.target: is needed by task multiclass",
        "config.yaml:1: data.text: names no column: list at least one to learn from",
    ]


@pytest.mark.parametrize("name", ["-x", "a/b", "", ".", "a" * 101, "a\\nb"])
def test_run_name_that_is_no_folder_name_is_refused(name: str) -> None:
    text = GOOD.replace("small", f'"{name}"')
    assert message(text).startswith(f"config.yaml:1: run.name: must be {RUN_NAME}, got ")


def test_a_dotted_name_keeps_its_arguments_unchecked() -> None:
    config = load(f"{GOOD}loss: {{name: my_parts.Focal, gamma: 2, alpha: [1, null]}}\n")
    assert config.loss.arguments == {"gamma": 2, "alpha": [1, None]}


def test_built_in_parts_take_counts() -> None:
    model = "pooling: {name: queries, queries: 8, units: 1}, fusion: {name: gated, size: 4}"
    found = load(f"{GOOD}  categorical: [z]\nmodel: {{{model}}}\n").model
    assert found.pooling.arguments == {"queries": 8, "units": 1}
    assert found.fusion.arguments == {"size": 4}


def test_selection_may_use_a_metric_of_ones_own_that_is_listed() -> None:
    config = load(f"{GOOD}metrics: [my_parts.cost]\nselection: {{metric: my_parts.cost}}\n")
    assert config.selection.metric == "my_parts.cost"


def test_missing_file_folder_and_null_byte_are_clear_errors() -> None:
    Path("sub").mkdir()
    for path, expected in [
        ("nope.yaml", "nope.yaml: no such file; give the path of a YAML config"),
        ("sub", "sub: is a folder; give the YAML config in it"),
        ("a\0b", "a\0b: can't be read: embedded null byte"),
    ]:
        with pytest.raises(FoldwiseError) as caught:
            load_config(path)
        assert str(caught.value) == expected


class TestExtends:
    def test_maps_merge_lists_and_holdout_are_replaced_and_lines_stay(self) -> None:
        write(f"{GOOD}  categorical: [A, B]\nholdout: {{path: h.csv}}\n", "base.yaml")
        config = load(
            "extends: base.yaml\ndata: {categorical: [C], target: T}\nholdout: {fraction: 0.5}\n"
        )
        assert config.run.name == "small"
        assert (config.data.path, config.data.target) == ("synthetic", "T")
        assert config.data.categorical == ["C"]
        assert config.holdout is not None
        assert (config.holdout.fraction, config.holdout.path) == (0.5, None)

    def test_an_average_of_another_kind_replaces_the_one_of_the_base(self) -> None:
        write(f"{GOOD}training: {{average: {{ema: 0.9}}, epochs: 2}}\n", "base.yaml")
        config = load("extends: base.yaml\ntraining: {average: {swa: 0.5}}\n")
        assert config.training.average == Average(swa=0.5)
        assert config.training.epochs == 2

    def test_a_map_whose_name_changes_is_replaced_whole(self) -> None:
        write(f"{GOOD}loss: {{name: my.A, x: 1}}\noptimizer: {{name: adamw, lr: 1}}\n", "base.yaml")
        config = load("extends: base.yaml\nloss: {name: my.B}\noptimizer: {head_lr: 2}\n")
        assert config.loss.arguments == {}
        assert (config.optimizer.lr, config.optimizer.head_lr) == (1, 2)

    def test_a_head_of_ones_own_takes_nothing_of_the_built_in_head(self) -> None:
        write(f"{GOOD}model: {{head: {{hidden: [64]}}}}\n", "base.yaml")
        config = load("extends: base.yaml\nmodel: {head: {name: my.Head, size: 3}}\n")
        assert config.model.head == Part(name="my.Head", size=3)  # type: ignore[call-arg]

    def test_a_part_written_as_a_name_is_replaced_whole(self) -> None:
        write(f"{GOOD}loss: {{name: my.A, x: 1}}\nschedule: linear\n", "base.yaml")
        config = load("extends: base.yaml\nloss: my.A\nschedule: {warmup: 0.5}\n")
        assert config.loss.arguments == {}
        assert (config.schedule.name, config.schedule.warmup) == ("cosine", 0.5)

    def test_a_label_called_name_does_not_replace_the_weights(self) -> None:
        write(f"{GOOD}loss: {{class_weights: {{name: 1, B: 2}}}}\n", "base.yaml")
        config = load("extends: base.yaml\nloss: {class_weights: {name: 3}}\n")
        assert config.loss.class_weights == {"name": 3, "B": 2}

    def test_a_run_of_another_name_keeps_the_folder_and_seed_of_its_base(self) -> None:
        write(GOOD.replace("{name: small}", "{name: small, dir: elsewhere}"), "base.yaml")
        assert load("extends: base.yaml\nrun: {name: other}\n").run.dir == "elsewhere"
        assert load("extends: base.yaml\nrun: {seed: 1}\n").run.dir == "elsewhere"

    def test_paths_are_relative_to_the_file_that_names_them(self, folder: Path) -> None:
        write("", "shared/parts/my_parts.py")
        write(f"code: [parts/my_parts.py]\n{GOOD}", "shared/base.yaml")
        write("extends: ../shared/base.yaml\n", "experiments/middle.yaml")
        config = load("extends: experiments/middle.yaml\n")
        assert config.code == [str(folder / "shared/parts/my_parts.py")]
        assert config.run.dir == "runs"

    def test_problems_name_the_file_and_line_that_wrote_the_value(self) -> None:
        write(f"{GOOD}training: {{epochs: 0,\n  clip: -1}}\n", "base.yaml")
        assert message("extends: base.yaml\ntraining:\n  epochs: -1\n").split("\n") == [
            "base.yaml:7: training.clip: must be a number above 0, or null, got -1",
            "config.yaml:3: training.epochs: must be a whole number of 1 or more, or auto, got -1",
        ]

    def test_a_circle_is_refused_with_its_chain(self) -> None:
        write("extends: b.yaml\n", "a.yaml")
        write("# b\nextends: config.yaml\n", "b.yaml")
        assert message("extends: a.yaml\n") == (
            "b.yaml:2: extends: goes round in a circle: "
            "config.yaml -> a.yaml -> b.yaml -> config.yaml"
        )

    def test_a_chain_of_ten_is_read_and_one_more_refused(self) -> None:
        write(GOOD, "c0.yaml")
        for i in range(1, 12):
            write(f"extends: c{i - 1}.yaml\n", f"c{i}.yaml")
        assert load_config("c10.yaml").run.name == "small"
        with pytest.raises(FoldwiseError) as caught:
            load_config("c11.yaml")
        assert str(caught.value) == "c1.yaml:1: extends: more than 10 configs in a chain"

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("no.yaml", "extends: no such file: 'no.yaml'"),
            ('"a\\0b"', "extends: no such file: 'a\\x00b'"),
            ("[a.yaml]", "extends: must be the path of one config, relative to this file, got "
             "['a.yaml']"),
            ("null", "extends: must be the path of one config, relative to this file, got null"),
        ],
    )  # fmt: skip
    def test_extends_that_names_no_file_is_refused(self, written: str, expected: str) -> None:
        assert message(f"{GOOD}extends: {written}\n") == f"config.yaml:6: {expected}"

    def test_a_broken_base_is_named_with_its_own_line(self) -> None:
        write("a: 'x\n", "base.yaml")
        assert message("extends: base.yaml\n") == (
            "base.yaml:2:1: the quote opened on line 1 is not closed"
        )


class TestOverrides:
    def test_values_are_read_as_yaml_and_replace_what_stands_there(self) -> None:
        config = load(
            FULL,
            "training.epochs=3",
            "data.sample={per_class: 9}",
            "data.text=[a, '1']",
            "holdout=null",
            "optimizer=adamw",
            "loss.class_weights.Credit card=4",
            "run.name=00501",
        )
        assert config.training.epochs == 3
        assert config.data.sample == PerClass(per_class=9)
        assert config.data.text == ["a", "1"]
        assert config.holdout is None
        assert config.optimizer.arguments == {}
        assert config.loss.class_weights == {"A": 2, "7": 0.5, "Credit card": 4}
        assert config.run.name == "00501"

    def test_missing_and_null_maps_are_filled_in(self) -> None:
        config = load(f"{GOOD}holdout: null\n", "holdout.fraction=0.25", "model.head.dropout=0")
        assert config.holdout is not None
        assert config.holdout.fraction == 0.25
        assert config.model.head == Head(dropout=0)

    def test_the_last_one_wins(self) -> None:
        assert load(GOOD, "run.seed=1", "run.seed=2").run.seed == 2

    def test_code_is_relative_to_the_working_directory(self, folder: Path) -> None:
        write("", "p.py")
        write(GOOD, "sub/config.yaml")
        assert load_config("sub/config.yaml", ["code=[p.py]"]).code == [str(folder / "p.py")]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("training.epochs", "must have the form a.b=value"),
            ("=3", "must have the form a.b=value"),
            ("a..b=3", "must have the form a.b=value"),
            ("training.epochs=", "has no value; write null for none"),
            ("extends=a.yaml", "extends can only be written in the config file"),
            ("data.text.0=x", "data.text is ['Narrative'], not a map; set data.text as a whole"),
            ("run.name.x=1", "run.name is 'small', not a map; set run.name as a whole"),
            ("training.epochs=[1", "the list opened with '[' lacks a ',' or its ']'"),
            ("text={a: 1, a: 2}", "a: is given twice"),
            ("training.epochs=x", "training.epochs: must be a whole number of 1 or more, "
             "or auto, got 'x'"),
            ("training={epochs: 0}", "training.epochs: must be a whole number of 1 or more, "
             "or auto, got 0"),
            ("run={}", f"run.name: is missing; give {RUN_NAME}"),
            ("data.sample.x=1", "data.sample.per_class: is missing; give a whole number of 1 or "
             "more"),
            ("trainng.epochs=1", f"trainng: unknown key; did you mean 'training'? (valid: "
             f"{TOP_KEYS})"),
        ],
    )  # fmt: skip
    def test_bad_override_is_named_instead_of_a_line(self, text: str, expected: str) -> None:
        assert (
            message(f"{GOOD}  sample: null\n", text).split("\n")[0] == f"--set {text}: {expected}"
        )


class TestVariables:
    def test_the_four_keys_are_filled_in_and_no_other(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SOME_DIR", "/data")
        config = load(
            GOOD.replace("synthetic", "${SOME_DIR}/${SOME_DIR}.csv").replace("Product", "${NOT}")
            + 'model: {backbone: "${SOME_DIR}/b"}\nholdout: {path: "$${SOME_DIR}"}\n',
            "run.dir=${SOME_DIR}/runs",
        )
        assert config.data.path == "/data//data.csv"
        assert config.data.target == "${NOT}"
        assert config.model.backbone == "/data/b"
        assert config.holdout is not None
        assert config.holdout.path == "${SOME_DIR}"
        assert config.run.dir == "/data/runs"

    def test_an_unset_one_is_named_with_its_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NOT_SET", raising=False)
        text = GOOD.replace("synthetic", "${NOT_SET}/x").replace("small}", "x, dir: '${}'}")
        assert message(text).split("\n") == [
            "config.yaml:1: run.dir: a variable is written ${NAME}, a literal ${ as $${",
            "config.yaml:3: data.path: the environment variable NOT_SET is not set",
        ]


class TestStored:
    """A run's config.yaml: what Foldwise has written, or somebody else."""

    def message(self, text: str) -> str:
        with pytest.raises(FoldwiseError) as caught:
            load_stored(write(text))
        return str(caught.value)

    def test_no_variable_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET", "hunter2")
        text = GOOD.replace("synthetic", "/x/${SECRET}") + "model: {backbone: '${UNSET}'}\n"
        assert self.message(text).split("\n") == [
            "config.yaml:3: data.path: a run's config names no environment variables; write the "
            "value itself",
            "config.yaml:6: model.backbone: a run's config names no environment variables; write "
            "the value itself",
        ]

    def test_what_was_written_loads_back_with_its_literal_signs(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SOME_DIR", "/odd${name}")
        config = load(
            GOOD.replace("synthetic", "${SOME_DIR}/t.csv") + "holdout: {path: '$${SOME_DIR}'}\n"
        )
        assert config.data.path == "/odd${name}/t.csv"
        assert load_stored(write(dump_config(config))) == config

    def test_nothing_outside_the_run_is_named(self, folder: Path) -> None:
        write("x = 1", "p.py")
        text = f"extends: base.yaml\n{GOOD}code: [p.py, ../p.py, code/../p.py]\n"
        assert self.message(text).split("\n") == [
            "config.yaml:1: extends: a run's config extends no other",
            *(
                f"config.yaml:7: code: {name!r} doesn't lie in the run's folder code/"
                for name in ("p.py", "../p.py", "code/../p.py")
            ),
        ]

    def test_a_password_is_kept_out_of_what_will_be_stored(self) -> None:
        uri = "{name: mlflow, uri: 'postgresql://me:hunter2@host/db'}"
        assert message(f"{GOOD}trackers: [tensorboard, {uri}]\n") == (
            "config.yaml:6: trackers[1].uri: holds a password, which would lie in the run's "
            "config.yaml; leave it out and set it where the tracker looks for it, such as "
            "MLFLOW_TRACKING_URI"
        )
        for uri in ("http://host:5000", "http://me@host/a:b@c", "sqlite:///x.db"):
            load(f"{GOOD}trackers: [{{name: mlflow, uri: '{uri}'}}]\n")


class TestCode:
    def test_a_file_that_is_missing_or_no_python_is_named(self, folder: Path) -> None:
        write("", "p.txt")
        assert message(f"{GOOD}code:\n  - p.py\n  - p.txt\n  - 3\n").split("\n") == [
            f"config.yaml:7: code[0]: no such file: {folder}/p.py",
            f"config.yaml:8: code[1]: must be a Python file ending in .py, got '{folder}/p.txt'",
            "config.yaml:9: code[2]: must be text, got 3; quote it",
        ]

    def test_a_folder_is_no_code(self, folder: Path) -> None:
        Path("p.py").mkdir()
        expected = f"config.yaml:6: code[0]: no such file: {folder}/p.py"
        assert message(f"{GOOD}code: [p.py]\n") == expected

    def test_a_bare_name_is_told_to_be_a_list(self) -> None:
        expected = "config.yaml:6: code: must be a list of texts, got 'p.py'; write [p.py]"
        assert message(f"{GOOD}code: p.py\n") == expected


TEXT = st.one_of(
    st.text(min_size=1, max_size=12),
    st.sampled_from(
        ["no", "1e-5", "1_000", "0o17", "00501", "1:30", "null", "~", "true", "2020-01-01", ".inf"]
    ),
    st.sampled_from(["<<", "=", "- a", "a: b", "# c", " x ", "${X}", "$${X}", "$$${", "!t", "*a"]),
    st.sampled_from(["&a", "x\ny", "\x85", "\u2028x", "\ufeff", "'", '"', "|", "%", "@", "\t"]),
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT
    | st.floats(allow_nan=False),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXT, below, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAME = st.text(string.ascii_letters + string.digits, min_size=1, max_size=9)
ARGUMENTS = st.dictionaries(TEXT.filter(lambda key: key != "name"), VALUE, max_size=3)
POSITIVE = st.floats(0, 1e30, exclude_min=True)
OWN_PART = ARGUMENTS.map(lambda arguments: {**arguments, "name": "my_parts.Name"})
CONFIGS = st.fixed_dictionaries(
    {
        "run": st.fixed_dictionaries({"name": NAME}, optional={"dir": TEXT}),
        "data": st.fixed_dictionaries(
            {"path": TEXT, "target": TEXT.map("t".__add__), "text": st.just(["a"])},
            optional={
                "sample": st.integers(1, 99)
                | st.floats(0.1, 0.9)
                | st.just({"per_class": 3})
                | st.none()
            },
        ),
    },
    optional={
        "holdout": st.fixed_dictionaries({"path": TEXT}),
        "model": st.fixed_dictionaries({}, optional={"backbone": TEXT, "head": OWN_PART}),
        "loss": st.fixed_dictionaries({"class_weights": st.dictionaries(TEXT, POSITIVE)}),
        "optimizer": st.fixed_dictionaries({"lr": POSITIVE}),
        "metrics": OWN_PART.map(lambda part: ["mcc", part]),
        "baselines": st.booleans(),
    },
)
QUIET = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(CONFIGS)
def test_dumped_config_loads_back_equal(values: dict[str, object]) -> None:
    config = Config.model_validate(values)
    loaded = load(dump_config(config))
    assert loaded == config
    assert loaded.model_dump() == config.model_dump()
    assert diff_configs(config, loaded) == []


def test_dump_writes_every_key_under_one_comment_line() -> None:
    text = dump_config(load(FULL))
    assert text.startswith("# Every key of the config, resolved; docs/config.md explains them.\n")
    assert text.count("#") == 1
    assert "extends" not in text
    assert "  checkpoint_activations: false\n" in text
    assert load(text) == load(FULL)


def test_dump_writes_a_list_that_stands_twice_without_aliases() -> None:
    shared = [1, 2]
    values = load(GOOD).model_dump() | {"loss": {"name": "my.L", "a": shared, "b": shared}}
    config = Config.model_validate(values)
    assert load(dump_config(config)) == config


def test_a_refused_value_hides_no_other_problem() -> None:
    text = GOOD.replace("target: Product", "target: *x") + "training: !t {epochs: 1}\nholdout: {}\n"
    assert [line.split(":")[1] for line in message(text).split("\n")] == ["4", "6", "7"]
    assert "data.text" in message(text.replace("[Narrative]", "[]"))


@pytest.mark.parametrize(
    "wrong",
    ["model: {pooling: {name: maen}}", "metrics: [f1_macr]", "holdout: {fraction: 3}", "loss: [1]"],
)
def test_a_wrong_key_hides_no_check_of_other_keys(wrong: str) -> None:
    text = GOOD.replace("  target: Product\n", "") + wrong
    assert "config.yaml:2: data.target: is needed by task multiclass" in message(text).split("\n")


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert load(b"\xef\xbb\xbf" + GOOD.encode()) == load(GOOD)


def test_diff_lists_the_keys_that_differ() -> None:
    a = load(FULL)
    b = load(
        FULL,
        "training.epochs=3",
        "holdout=null",
        "model.pooling=mean",
        "data.text=[b]",
        "run.name=z",
        "run.seed=1",
    )
    assert diff_configs(a, b) == [
        "run.name: 'full' -> 'z'",
        "run.seed: 7 -> 1",
        "data.text: ['Narrative'] -> ['b']",
        "holdout: {fraction: 0.2, path: null} -> null",
        "model.pooling.name: 'my_parts.Pooling' -> 'mean'",
        "model.pooling.size: 8 -> not set",
        "training.epochs: 1 -> 3",
    ]
    assert diff_configs(a, b, ignore=["run", "model.pooling", "holdout", "data.text"]) == [
        "training.epochs: 1 -> 3"
    ]
    assert diff_configs(a, a) == []


TOKENS = st.one_of(
    st.sampled_from(
        ["{", "}", "[", "]", ":", ",", "- ", "\n", "  ", "\t", "&a ", "*a", "!x ", "#"]
    ),
    st.sampled_from(["'", '"', "|", ">", "?", "---\n", "%YAML 1.1\n", "<<: ", "null", "true"]),
    st.sampled_from(["1e5", "-3", "x", "name", "\\U99999999", "\0", "\x85", "\ud7ff", "é", "${A}"]),
    st.sampled_from(["run", "data", "loss", "extends: config.yaml\n", "code: [a.py]", "!!int "]),
    st.sampled_from(["model: {head: ", "sample: ", "class_weights: ", "metrics: "]),
)


def outcome_of(path: str, *overrides: str) -> Config | FoldwiseError:
    try:
        return load_config(path, overrides)
    except FoldwiseError as error:
        return error


@settings(max_examples=300, deadline=1000, suppress_health_check=QUIET)
@given(
    st.sampled_from([GOOD, FULL]),
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 12), TOKENS), max_size=4),
    st.binary(max_size=6),
)
@example(GOOD, [], b"\xff")
@example("", [(0, 0, '"\\U99999999"')], b"")
def test_mutated_text_gives_a_config_or_a_foldwise_error(
    text: str, edits: list[tuple[int, int, str]], tail: bytes
) -> None:
    for at, removed, inserted in edits:
        text = text[:at] + inserted + text[at + removed :]
    outcome = outcome_of(write(text.encode() + tail))
    if isinstance(outcome, Config):
        assert load(dump_config(outcome)) == outcome
    else:
        assert all(line.startswith("config.yaml") for line in str(outcome).split("\n"))


@settings(max_examples=200, deadline=1000, suppress_health_check=QUIET)
@given(st.binary(max_size=200) | st.lists(TOKENS).map(lambda t: "".join(t).encode()))
def test_any_bytes_give_a_config_or_a_foldwise_error(content: bytes) -> None:
    with pytest.raises(FoldwiseError):
        load(content)


@settings(max_examples=300, deadline=1000, suppress_health_check=QUIET)
@given(st.sampled_from([*Config.model_fields, "data.sample", "model.head", "folds.run"]), VALUE)
def test_any_value_at_a_key_gives_a_config_or_a_foldwise_error(key: str, value: object) -> None:
    outcome = outcome_of(write(GOOD), f"{key}={value!r}")
    assert isinstance(outcome, Config) or str(outcome).startswith(f"--set {key}=")


def test_a_small_config_loads_in_50_ms() -> None:
    write(FULL)
    load_config("config.yaml")
    times = []
    for _ in range(5):
        started = time.perf_counter()
        load_config("config.yaml")
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05


def test_importing_the_config_imports_no_torch_transformers_or_sklearn() -> None:
    code = (
        "import sys, foldwise.config.load, foldwise.config.reference;"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'numpy') if m in sys.modules])"
    )
    run = [sys.executable, "-c", code]
    printed = subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ})
    assert printed.stdout == "[]\n"
