from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from conftest import make_table
from foldwise.cli import app
from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.eda.starter import BACKBONE
from foldwise.errors import FoldwiseError
from foldwise.models.resolve import files_here
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.preparation.prepare import prepare
from foldwise.preparation.resolve import resolve
from foldwise.run.folder import RunFolder
from foldwise.workflow import cross_validate

ROWS = 120


def init(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["init", *arguments])
    if isinstance(result.exception, FoldwiseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def tickets() -> pl.DataFrame:
    """A table with one column of each kind, odd names among them."""
    table = make_table(ROWS)
    index = range(ROWS)
    return table.with_columns(
        pl.Series("id", [str(i) for i in index]),
        pl.Series('opened: "when" #é', [f"2024-03-{1 + i % 28:02}" for i in index]),
        pl.Series("yes", ["no"] * ROWS),
        pl.Series("copy of label", table["label"]),
        pl.Series("- odd: 'name' {x}", [f"v{i % 4}" for i in index]),
    )


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ready(path: str, backbone: Path) -> Config:
    """Load a config and take it through everything that comes before training."""
    overrides = [f"model.backbone={backbone}"] if load_config(path).data.text else []
    config = resolve(load_config(path, overrides))
    run = RunFolder(Path(config.run.dir) / config.run.name)
    code = UserCode(config.code)
    prepare(config, code, run, build_task(config, code))
    return config


def test_numbers_with_a_decimal_comma_are_found_and_the_config_says_so(backbone: Path) -> None:
    table = (
        make_table(ROWS)
        .drop("kind")
        .with_columns(
            pl.Series(
                "amount", [f"{1000 + 7 * i**2:,}".replace(",", ".") + ",5" for i in range(ROWS)]
            )
        )
    )
    table.write_csv("tickets.csv", separator=";")
    init("tickets.csv", "--target", "label")
    text = Path("tickets.yaml").read_text()
    assert "  decimal: ','\n" in text
    assert "- amount  # numbers from 1000.5 to 100128" in text
    assert ready("tickets.yaml", backbone).data.numeric == ["amount"]


def test_a_column_of_numbers_and_a_few_words_says_why_it_is_not_numeric() -> None:
    amounts = [f"{7 * i**2}.5" for i in range(ROWS)]
    make_table(ROWS).with_columns(
        pl.Series("amount", ["NA", *amounts[1:]]), pl.Series("code", ["x", *["1", "2"] * 59, "3"])
    ).write_csv("tickets.csv")
    init("tickets.csv", "--target", "label")
    text = Path("tickets.yaml").read_text()
    assert (
        "#   amount (identifier: 100% of the values are distinct; numbers, though 1 row holds no "
        "number there ('NA'): empty those cells to list it under numeric)"
    ) in text
    assert "- code  # 4 values\n" in text


def test_labels_with_commas_stay_classes_beside_numbers_that_have_them(backbone: Path) -> None:
    table = make_table(ROWS).with_columns(
        pl.Series("amount", [f"{7 * i**2},5" for i in range(ROWS)]),
        pl.Series("label", ["1,0", "2,0", "3,0"] * (ROWS // 3)),
    )
    table.write_csv("tickets.csv", separator=";")
    init("tickets.csv", "--target", "label")
    config = ready("tickets.yaml", backbone)
    assert (config.task, config.data.decimal, config.data.numeric) == (
        "multiclass",
        ",",
        ["amount"],
    )


def test_the_config_uses_what_is_useful_and_says_why_the_rest_is_not(backbone: Path) -> None:
    tickets().write_csv("tickets.csv")
    said = init("tickets.csv", "--target", "label")
    config = ready("tickets.yaml", backbone)
    assert config.run.name == "tickets"
    assert config.data.text == ["text"]
    assert config.data.categorical == ["- odd: 'name' {x}"]
    assert config.data.numeric == ["amount"]
    text = Path("tickets.yaml").read_text()
    assert "#   id (identifier: a different whole number in each row)" in text
    assert "#   yes (constant: always 'no')" in text
    assert "#   kind (its value tells the target of 100.0% of the rows)" in text
    assert "#   copy of label (its value tells the target of 100.0% of the rows)" in text
    assert 'opened: "when" #é (date: dates, such as 2024-03-01)' in text
    assert said.splitlines()[-1] == "next: foldwise train tickets.yaml"


def test_it_trains_as_is_with_a_pooling_of_your_own(backbone: Path) -> None:
    tickets().write_csv("tickets.csv")
    init("tickets.csv", "--target", "label", "--code")
    small = ["folds.n=2", "training.epochs=1", "text.max_length=24", "training.device=cpu"]
    config = load_config("tickets.yaml", [f"model.backbone={backbone}", *small])
    assert config.model.pooling.name == "my_parts.MyPooling"
    assert cross_validate(config).finished


@pytest.mark.parametrize(
    ("target", "task"),
    [
        ([f"{i * 1.5:.2f}" for i in range(ROWS)], "regression"),
        (["x;y", "y", "x", "z;x", "y;z"] * (ROWS // 5), "multilabel"),
        (["yes", "no"] * (ROWS // 2), "multiclass"),
        (["1", "2", "3", "4"] * (ROWS // 4), "multiclass"),
        (["x, y", "y", "x", "z, x", "y, z"] * (ROWS // 5), "multilabel"),
        (["Loan, or lease", "Card", "Account, or card", "Debt"] * (ROWS // 4), "multiclass"),
        (["1,5", "2,5", "2,0", "1,0", "3,5", "3,0"] * (ROWS // 6), "multiclass"),
    ],
)
def test_the_task_follows_from_the_target(target: list[str], task: str, backbone: Path) -> None:
    make_table(ROWS).drop("label").with_columns(pl.Series("goal", target)).write_csv("t.csv")
    init("t.csv", "--target", "goal")
    assert ready("t.yaml", backbone).task == task


def test_lists_in_parquet_and_json_are_several_labels(backbone: Path) -> None:
    lists = [["a", "b"], ["b"], [], ["c", "a"]] * (ROWS // 4)
    table = make_table(ROWS).with_columns(pl.Series("label", lists))
    table.write_parquet("t.parquet")
    init("t.parquet", "--target", "label")
    assert ready("t.yaml", backbone).task == "multilabel"
    rows = [json.dumps(row) for row in table.to_dicts()]
    Path("j.jsonl").write_text("\n".join(rows) + "\n")
    init("j.jsonl", "--target", "label")
    assert ready("j.yaml", backbone).task == "multilabel"


def test_a_table_without_text_is_learnt_from_its_columns(backbone: Path) -> None:
    make_table(ROWS).drop("text").write_csv("t.csv")
    init("t.csv", "--target", "label")
    config = ready("t.yaml", backbone)
    assert (config.data.text, config.model.fusion.name) == ([], "concat")
    with pytest.raises(FoldwiseError, match="no text column, so there is nothing to pool"):
        init("t.csv", "--target", "label", "--code", "-o", "other.yaml")


def test_rare_classes_and_missing_targets_are_taken_care_of(backbone: Path) -> None:
    for rare, policy in ((2, "drop"), (14, "merge")):
        labels: list[str | None] = make_table(ROWS)["label"].to_list()
        labels[:rare] = [f"rare {i // 2}" for i in range(rare)]
        labels[-1] = None
        make_table(ROWS).with_columns(pl.Series("label", labels)).write_csv(f"t{rare}.csv")
        init(f"t{rare}.csv", "--target", "label")
        config = ready(f"t{rare}.yaml", backbone)
        assert (config.data.rare_classes, config.data.missing.target) == (policy, "drop")


def test_amounts_with_a_few_words_among_them_are_a_regression_without_those_rows(
    backbone: Path,
) -> None:
    stars = [f"{i % 19 / 4 + 0.25}" for i in range(ROWS)]
    stars[3:6] = ["Unrated", "NR", "Unrated"]
    make_table(ROWS).drop("label").with_columns(pl.Series("stars", stars)).write_csv("t.csv")
    init("t.csv", "--target", "stars")
    config = ready("t.yaml", backbone)
    assert (config.task, config.data.missing.target) == ("regression", "drop")
    text = Path("t.yaml").read_text()
    assert "# 3 rows hold no number there ('Unrated', 'NR')\n" in text
    assert "# numbers from 0.25 to 4.75\n" in text


@pytest.mark.parametrize("words", [["none"] * 2, ["2,5"] * 10])
def test_levels_with_a_word_and_amounts_with_many_stay_classes(
    words: list[str], backbone: Path
) -> None:
    levels = 4 if words == ["none"] * 2 else 15
    goal = [*words, *(f"{i % levels}" for i in range(ROWS - len(words)))]
    make_table(ROWS).drop("label").with_columns(pl.Series("goal", goal)).write_csv("t.csv")
    init("t.csv", "--target", "goal")
    assert ready("t.yaml", backbone).task == "multiclass"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("lable", "--target lable: t.csv has no such column; did you mean 'label'? It has: "),
        ("yes", "--target yes: the column has 1 different values; there is nothing to predict"),
        ("text", "--target text: 120 different values in 120 rows are too many for classes"),
    ],
)
def test_a_target_that_will_not_do_is_refused(target: str, message: str) -> None:
    tickets().write_csv("t.csv")
    with pytest.raises(FoldwiseError) as refused:
        init("t.csv", "--target", target)
    assert str(refused.value).startswith(message)
    assert not Path("t.yaml").exists()


def test_nothing_is_overwritten() -> None:
    tickets().write_csv("t.csv")
    Path("my_parts.py").write_text("mine")
    with pytest.raises(FoldwiseError, match=r"my_parts.py: is there already"):
        init("t.csv", "--target", "label", "--code")
    assert not Path("t.yaml").exists()
    init("t.csv", "--target", "label")
    before = Path("t.yaml").read_bytes()
    with pytest.raises(FoldwiseError, match=r"t.yaml: is there already"):
        init("t.csv", "--target", "label")
    assert Path("t.yaml").read_bytes() == before


def test_whole_numbers_by_a_name_of_an_order_are_ordinal(backbone: Path) -> None:
    table = make_table(ROWS).drop("label")
    table.with_columns(pl.Series("starRating", ["1", "2", "3"] * 40)).write_csv("t.csv")
    init("t.csv", "--target", "starRating")
    assert ready("t.yaml", backbone).task == "ordinal"


def test_rare_labels_of_sets_are_left_out_of_the_prediction(backbone: Path) -> None:
    sets = ["x, y", "y", "x", "z, x", "y, z"] * (ROWS // 5)
    table = make_table(ROWS).with_columns(pl.Series("label", ["x, rare", *sets[1:]]))
    table.write_csv("t.csv")
    init("t.csv", "--target", "label")
    config = ready("t.yaml", backbone)
    assert (config.data.separator, config.data.rare_classes) == (",", "drop")


def test_what_follows_from_the_target_is_left_out(backbone: Path) -> None:
    table = make_table(ROWS)
    first = pl.col("label") == table["label"][0]
    index = pl.Series("n", range(ROWS))
    table.with_columns(
        pl.when(first).then(pl.format("reason {}", index % 7)).alias("reason"),
        first.cast(pl.Int8).alias("feedback"),
        pl.when(index < 4).then(pl.format("{} #{}", 2016 - index % 2, index)).alias("top_ten"),
        pl.Series("review", np.random.default_rng(3).permutation(5000)[:ROWS]),
    ).write_csv("t.csv")
    init("t.csv", "--target", "label")
    assert ready("t.yaml", backbone).data.categorical == []
    text = Path("t.yaml").read_text()
    for told in (
        "reason (whether it is empty follows from 'label': filled in once that is known?)",
        "feedback (it follows from 'label': made of it?)",
        "top_ten (filled in 4 of 120 rows)",
        "review (identifier: a different whole number in each row, evenly spread)",
    ):
        assert f"  #   {told}" in text


def test_small_tables_train_in_small_batches_for_enough_steps() -> None:
    make_table(ROWS).write_csv("t.csv")
    init("t.csv", "--target", "label")
    training = load_config("t.yaml").training
    assert (training.epochs, training.batch_size) == ("auto", 16)


@pytest.mark.parametrize("installed", [True, False])
def test_long_texts_get_more_tokens(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    if not installed:
        monkeypatch.setattr("foldwise.eda.starter.files_here", lambda name: None)
    elif files_here(BACKBONE) is None:
        pytest.skip(f"the package that carries {BACKBONE} isn't installed")
    for words, tokens in ((10, 64), (110, 128), (210, 256), (320, 384), (900, 512)):
        table = make_table(ROWS).with_columns(
            pl.Series(
                "text", [" ".join(rng.choice(["ask", "the", "bank"], words)) for _ in range(ROWS)]
            )
        )
        table = table.with_columns(pl.col("text") + pl.Series(map(str, range(ROWS))))
        table.write_csv(f"t{words}.csv")
        init(f"t{words}.csv", "--target", "label")
        assert load_config(f"t{words}.yaml").text.max_length == tokens
