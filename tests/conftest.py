"""Tiny tables and tiny random backbones, shared by the tests."""

from __future__ import annotations

import os
import runpy
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# One thread: the models are tiny, and a busy machine's cores wait for each other otherwise.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import polars as pl
import pytest

from foldwise.config.schema import Config

pytest_plugins = ["browser"]

# Nothing hangs on the machine: `make test-cpus` has the tests that compute run as on other CPUs.
os.environ.setdefault("FOLDWISE_TEST_CPU", "plain")
PRECISION = os.environ.setdefault("FOLDWISE_TEST_PRECISION", "float32")
# How far a row's probabilities may move when it is batched with other rows.
ROUNDING = {"float32": 1e-5, "bf16": 0.01}[PRECISION]


# Pretended before anything asks the machine: a folder's own conftest may import torch.
PRETENDING = Path(__file__).parent / "cpu"
runpy.run_path(str(PRETENDING / "sitecustomize.py"))
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(PRETENDING), os.environ.get("PYTHONPATH", "")])
)


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all but their tests."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


# Folders whose files share what one fixture trains or starts: a worker takes all of a folder.
SHARING = {
    "tests/chaos",
    "tests/condense",
    "tests/export",
    "tests/hostile",
    "tests/serving",
    "tests/storage",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal out whole files, as `--dist loadfile` does, and whole folders that share a fixture."""
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            folder = file.rpartition("/")[0]
            return folder if folder in SHARING else file

    return Together(config, log) if config.option.dist == "loadfile" else None


WORDS = {
    "card": ["credit", "card", "charge", "limit", "statement", "fee", "bank", "refund"],
    "loan": ["loan", "payment", "servicer", "interest", "student", "monthly", "balance"],
    "debt": ["debt", "collector", "call", "owed", "letter", "validate", "harass", "lawsuit"],
}
# A label that is markup to whatever shows it unescaped.
HOSTILE = "a|b`<script>*_[x](y)\n---"
FILLER = ["the", "i", "a", "was", "my", "they", "to", "and", "on", "not", "it", "of", "again"]


def make_table(rows: int = 90, seed: int = 0) -> pl.DataFrame:
    """Three learnable classes, a category that hints at them, a number that doesn't."""
    rng = np.random.default_rng(seed)
    labels = [list(WORDS)[i % 3] for i in range(rows)]
    texts = []
    for label in labels:
        length = int(rng.integers(4, 30))
        pool = [
            rng.choice(WORDS[label]) if rng.random() < 0.5 else rng.choice(FILLER)
            for _ in range(length)
        ]
        texts.append(" ".join(map(str, pool)))
    return pl.DataFrame(
        {
            "text": texts,
            "kind": [f"{label[0]}{rng.integers(3)}" for label in labels],
            "amount": rng.normal(size=rows).round(3).astype(str),
            "label": labels,
        }
    )


def save_tokenizer(folder: Path, *, with_separator: bool = True) -> int:
    """Write a word-level tokenizer that knows the table's words; return its vocabulary's size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({*FILLER, *(w for pool in WORDS.values() for w in pool), "missing", "c0", "l0"})
    special = (
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] if with_separator else ["<eos>", "<unk>"]
    )
    vocabulary = {token: i for i, token in enumerate([*special, *words, "\n"])}
    unknown = "[UNK]" if with_separator else "<unk>"
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names: dict[str, str] = {"unk_token": unknown}
    if with_separator:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        names |= {
            "pad_token": "[PAD]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        }
    else:
        names |= {"eos_token": "<eos>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return len(vocabulary)


def save_backbone(folder: Path, kind: str = "bert", layers: int = 2) -> Path:
    """Write a tiny random backbone with tokenizer: bert (of so many layers), distilbert or gpt2."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    size = save_tokenizer(folder, with_separator=kind != "gpt2")
    torch.manual_seed(0)
    if kind == "bert":
        config: Any = transformers.BertConfig(
            vocab_size=size,
            hidden_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
    elif kind == "distilbert":
        config = transformers.DistilBertConfig(
            vocab_size=size,
            dim=32,
            n_layers=2,
            n_heads=2,
            hidden_dim=64,
            max_position_embeddings=64,
        )
    else:
        config = transformers.GPT2Config(
            vocab_size=size,
            n_embd=32,
            n_layer=2,
            n_head=2,
            n_positions=64,
            bos_token_id=0,
            eos_token_id=0,
        )
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """Mount a small file system on a folder, which only root can; elsewhere the test is skipped."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small file system can be mounted here (it takes root): {error}")
    yield folder
    # Lazily: a token store may still be mapped.
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT with tokenizer, in a folder."""
    return save_backbone(tmp_path_factory.mktemp("backbones") / "bert")


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny random backbone of a kind: bert, distilbert or gpt2."""
    root = tmp_path_factory.mktemp("kinds")

    def of_kind(kind: str) -> Path:
        folder = root / kind
        return folder if (folder / "config.json").exists() else save_backbone(folder, kind)

    return of_kind


@pytest.fixture(scope="session")
def table_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 rows of three learnable classes as CSV: text, kind, amount, label."""
    path = tmp_path_factory.mktemp("tables") / "table.csv"
    make_table().write_csv(path)
    return path


@pytest.fixture
def make_config(tmp_path: Path, backbone: Path, table_path: Path) -> Callable[..., Config]:
    """A small config that runs in a second a fold; dotted keyword overrides as in --set."""
    return small_config(tmp_path / "runs", backbone, table_path)


def small_config(runs: Path, backbone: Path, table_path: Path) -> Callable[..., Config]:
    """What makes the configs of `make_config`, with their runs in a folder."""

    def make(**sections: Any) -> Config:
        values: dict[str, Any] = {
            "run": {"name": "test", "dir": str(runs), "seed": 7},
            "data": {"path": str(table_path), "target": "label", "text": ["text"]},
            "folds": {"n": 3, "duplicates": "identical"},
            "selection": {"rows": "inner"},
            "text": {"max_length": 24},
            "model": {"backbone": str(backbone)},
            "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
            "training": {"epochs": 2, "batch_size": 8, "device": "cpu", "precision": PRECISION},
            "baselines": False,
            "ensemble": "model",
            "calibration": "none",
            "thresholds": "half",
        }
        for section, value in sections.items():
            merged = isinstance(value, dict) and isinstance(values.get(section), dict)
            values[section] = {**values[section], **value} if merged else value
        return Config.model_validate(values)

    return make
