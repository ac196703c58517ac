"""The model card says what the run says, and strangers' words in it are no markup."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import yaml
from huggingface_hub import ModelCard
from torch import nn

from conftest import HOSTILE
from foldwise.export.bundle import Checked
from foldwise.export.card import _what, compared, lost, plain
from foldwise.models.copies import Copies
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json


def test_the_hub_reads_the_scores_of_the_exported_model(run: RunFolder, bundle: Path) -> None:
    card = ModelCard.load(bundle / "README.md")
    results = {
        each.dataset_name: each for each in card.data.eval_results if each.metric_type == "f1"
    }
    fold = read_json(run.fold(1).validation)
    assert [name.split(" (")[1] for name in results] == [
        f"out of fold, {fold['rows']} rows)",
        "holdout, 18 rows)",
    ]
    first = next(iter(results.values()))
    assert first.metric_value == pytest.approx(fold["scores"]["f1_macro"], abs=1e-6)
    assert card.data.pipeline_tag == "text-classification"


def test_the_card_has_the_runs_figures(run: RunFolder, bundle: Path) -> None:
    text = (bundle / "README.md").read_text(encoding="utf-8")
    metrics = read_json(run.metrics)
    entry = metrics["members"]["linear"]["oof"]["f1_macro"]
    interval = "{value:.3f} [{low:.3f}, {high:.3f}]".format(**entry)
    assert f"| linear model | {interval} |" in text
    held = pl.read_parquet(run.fold(1).holdout)
    support = (held["target"] == "loan").sum()
    assert any(
        line.startswith("| loan |") and line.endswith(f"| {support} |")
        for line in text.splitlines()
    )


def test_the_card_says_of_how_many_networks_a_model_is_the_mean() -> None:
    def told(model: nn.Module) -> str:
        config = SimpleNamespace(
            model=SimpleNamespace(backbone="tiny"), data=SimpleNamespace(text=["text"])
        )
        predictor = SimpleNamespace(folds=[2])
        made: Any = SimpleNamespace(
            name="fold-2", predictor=predictor, config=config, models=[(None, model)]
        )
        return _what(made)

    one = told(nn.Linear(2, 2))
    assert one.endswith("of a cross-validated run of Foldwise, fine-tuned from tiny.")
    both = told(Copies([nn.Linear(2, 2), nn.Linear(2, 2)]))
    assert both == f"{one} It answers by the mean of 2 networks' logits."


def test_a_hostile_label_is_no_markup(bundle: Path) -> None:
    text = (bundle / "README.md").read_text(encoding="utf-8")
    front, body = text.split("---\n\n# ")
    assert yaml.safe_load(front.strip("-"))["library_name"] == "onnx"
    shown = plain(HOSTILE)
    assert shown == r"a\|b\`&lt;script&gt;\*\_\[x\](y) ---"
    lines = [line for line in body.splitlines() if line.startswith(f"| {shown} |")]
    assert len(lines) == 2  # of the data, and of the classes' scores
    assert "<script>" not in body


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\x00b\nc\u202ed", "a b c d"),
        ("see http://x.y and www.z.w, @all", "see http&#58;//x.y and www&#46;z.w, &#64;all"),
        ("x" * 200, "x" * 97 + "..."),
        ("---\nkey: [v](x)", r"--- key: \[v\](x)"),
    ],
)
def test_words_are_shown_and_do_nothing(given: str, shown: str) -> None:
    assert plain(given) == shown


def test_a_model_that_is_less_than_the_answer_is_told_with_both_scores() -> None:
    def entry(value: float) -> dict[str, Any]:
        return {"oof": {"f1_macro": {"value": value, "low": value - 0.1, "high": value + 0.1}}}

    metrics = {
        **entry(0.8),
        "answer": {"weights": {"model": 0.4, "linear": 0.6, "lookup": 0.0}},
        "members": {"model": entry(0.7), "linear": entry(0.75)},
        "verdict": {"metric": "f1_macro"},
    }
    source: Any = SimpleNamespace(name="fold-1", metrics=metrics)
    assert compared(source) == (
        "The run answers with more than this: the model and the linear model, by weights. Out of "
        "fold its answer has a macro-F1 of 0.800 [0.700, 0.900], the fine-tuned models alone "
        "0.700 [0.600, 0.800]. Only the fine-tuned model is here; `foldwise distill` teaches "
        "one the answer."
    )
    distilled: Any = SimpleNamespace(name="distilled", metrics=metrics)
    assert compared(distilled) == ""
    metrics["answer"] = {"weights": {"model": 1.0, "linear": 0.0}}
    assert compared(source) == ""


def test_what_int8_loses_of_numbers_is_no_label_and_no_probability() -> None:
    quantized = Checked("120 rows", 0.04, 0, {"rmse": 1.0}, {"rmse": 1.5})
    of_numbers: Any = SimpleNamespace(task=SimpleNamespace(holds="number"))
    told = lost(of_numbers, quantized)
    assert told.startswith(
        "In int8, of 120 rows, numbers differ from those in float32 by up to 0.04 deviations of "
        "the target. Scores there: RMSE"
    )
    of_labels: Any = SimpleNamespace(task=SimpleNamespace(holds="label"))
    assert "0 get another label than in float32, and probabilities differ" in lost(
        of_labels, quantized
    )
