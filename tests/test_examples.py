"""The examples train as shipped, reduced to seconds, and learn what they are shown."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from foldwise.commands.train import train
from foldwise.config.load import load_config
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json

EXAMPLES = Path(__file__).parents[1] / "examples"


def run_example(name: str, folder: Path, *overrides: str) -> RunFolder:
    """Train an example by the command line's function; check that it left a whole run."""
    settings = [f"run.dir={folder}", "training.device=cpu", "training.precision=float32"]
    train(EXAMPLES / name / "config.yaml", [*settings, *overrides], None)
    run = RunFolder(folder / name.replace("_", "-"))
    for number in (1, 2):
        fold = run.fold(number)
        assert any(fold.path.glob("checkpoints/step-*/*.safetensors"))
        assert fold.curves.stat().st_size > 0
    assert sorted(path.name for path in run.code.iterdir()) == sorted(
        path.name for path in (EXAMPLES / name).glob("*.py")
    )
    return run


def test_tabular_mlp_learns_and_keeps_its_scaling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_example("tabular_mlp", tmp_path, "folds.n=2", "training.epochs=6")
    scores = read_json(run.metrics)["oof"]
    assert scores["accuracy"]["value"] > 0.93
    assert scores["auroc_macro"]["value"] > 0.97
    assert pl.read_parquet(run.out_of_fold).height == 569
    one, other = (read_json(run.fold(n).encoders)["scaling"] for n in (1, 2))
    assert len(one[0]) == 30
    assert one != other  # fitted on the training rows of each fold
    assert f"{scores['accuracy']['value']:.3f}" in capsys.readouterr().out


def test_digits_cnn_reads_nine_of_ten_digits(tmp_path: Path) -> None:
    run = run_example("digits_cnn", tmp_path, "folds.n=2", "training.epochs=4")
    metrics = read_json(run.metrics)
    assert metrics["oof"]["accuracy"]["value"] > 0.9
    assert metrics["holdout"]["accuracy"]["value"] > 0.9
    rows = pl.read_parquet(run.out_of_fold).height + pl.read_parquet(run.holdout).height
    assert rows == 1797


def test_custom_llm_head_learns_under_any_backbone(
    tmp_path: Path, backbone: Path, table_path: Path
) -> None:
    run = run_example(
        "custom_llm_head",
        tmp_path,
        f"data.path={table_path}",
        "data.target=label",
        "data.text=[text]",
        f"model.backbone={backbone}",
        "model.freeze=0",
        "optimizer.lr=3e-3",
        "text.max_length=24",
        "baselines=false",
        "ensemble=model",
    )
    assert read_json(run.metrics)["oof"]["accuracy"]["value"] > 0.6  # a third by chance


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*/config.yaml")), ids=lambda p: p.parent.name
)
def test_an_example_is_a_config_and_one_file(path: Path) -> None:
    config = load_config(path)
    assert [Path(file).parent for file in config.code] == [path.parent]
    assert config.run.name == path.parent.name.replace("_", "-")
    assert f"foldwise train examples/{path.parent.name}/config.yaml" in path.read_text("utf-8")
    assert f"({path.parent.name})" in (EXAMPLES / "README.md").read_text("utf-8")
