from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from browser import Browser
from eda.tables import clean
from foldwise.cli import app
from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError

NASTY = "<script>alert('x')</script><img src=x onerror=alert(1)>&amp;"


@pytest.fixture
def config(make_config: Callable[..., Config], tmp_path: Path) -> Path:
    """A config whose table has markup wherever text can stand, and something of every section."""
    frame = clean()
    twins = frame[:30].with_columns(
        (pl.col("text") + " again").alias("text"), pl.lit("green").alias("label")
    )
    frame = pl.concat([frame, twins]).with_columns(
        pl.col("label").replace({"red": NASTY}),
        (pl.lit(NASTY) + " " + pl.col("text")).alias("text"),
        pl.when(pl.col("label") == "blue").then(None).otherwise("shop").alias(f"shop{NASTY}"),
    )
    path = tmp_path / "shops.csv"
    frame.drop("shop").write_csv(path)
    made = make_config(
        data={"path": str(path), "categorical": [f"shop{NASTY}"], "numeric": ["price"]},
        folds={"n": 3, "duplicates": "near"},
        text={"max_length": 24},
    )
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(made), encoding="utf-8")
    return file


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["eda", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_page_opens_in_a_browser(config: Path, tmp_path: Path, browser: Browser) -> None:
    out = tmp_path / "look.html"
    printed = call(config, "-o", out)
    assert printed.splitlines()[-1] == f"page: {out}"
    assert "near-duplicates: 60 rows in 30 groups" in printed
    for width, dark in ((1200, False), (390, True)):
        browser.open(out, width=width, dark=dark)
        assert browser.errors() == []
        assert len(browser.find_all("figure.chart")) == 3
        assert browser.charts_without_marks() == 0
        assert browser.overflow() <= 0
    assert [h.text for h in browser.find_all("h2")] == [
        "What stands out",
        "To paste",
        "Columns",
        "Target",
        "Input length",
        "Duplicates",
        "Each column alone",
        "Empty cells",
        "How to read this",
    ]
    assert browser.find_all("img") == []  # what the table holds stays text
    assert NASTY in browser.find("#target table").text


def test_only_a_page_of_edas_is_replaced(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "look.html"
    call(config, "-o", out)
    first = out.read_bytes()
    call(config, "-o", out)
    assert out.read_bytes() == first
    for other in ("mine", "<!doctype html>\n<!-- made by foldwise -->\n"):
        out.write_text(other, encoding="utf-8")
        with pytest.raises(FoldwiseError) as raised:
            call(config, "-o", out)
        assert str(raised.value) == (
            f"-o {out}: is there already and isn't a page that foldwise eda made; choose another "
            "name"
        )
        assert out.read_text(encoding="utf-8") == other


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.target=lable"], "{table}: has no column 'lable'; did you mean 'label'? "),
        (["data.path=nowhere.csv"], "no file matches 'nowhere.csv' "),
        (["model.backbone=./nowhere"], "model.backbone: ./nowhere: no such folder"),
        (["text.max_lenght=3"], "--set text.max_lenght=3: text.max_lenght: unknown key"),
    ],
)
def test_bad_input_writes_nothing(
    config: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    before = sorted(tmp_path.iterdir())
    options = [part for text in overrides for part in ("--set", text)]
    with pytest.raises(FoldwiseError) as raised:
        call(config, "-o", tmp_path / "look.html", "--write-subsets", *options)
    assert str(raised.value).startswith(message.format(table=tmp_path / "shops.csv"))
    assert sorted(tmp_path.iterdir()) == before


def test_a_row_cut_short_is_refused_with_its_line(config: Path, tmp_path: Path) -> None:
    table = tmp_path / "shops.csv"
    table.write_text(table.read_text(encoding="utf-8") + "00999,only two", encoding="utf-8")
    with pytest.raises(FoldwiseError, match=r"line 432 \(row 430\) has 2 cells"):
        call(config, "-o", tmp_path / "look.html")
    assert not (tmp_path / "look.html").exists()


def test_subsets_are_written_beside_the_page(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    printed = call(config, "-o", folder / "look.html", "--write-subsets")
    files = [folder / f"shops_{kind}.parquet" for kind in ("full", "partial", "debug")]
    assert [line for line in printed.splitlines() if line.startswith("table: ")] == [
        f"table: {file}" for file in files
    ]
    full, partial, debug = map(pl.read_parquet, files)
    assert (full.height, partial.height, debug.height) == (430, 430, 15)
    assert debug["label"].value_counts()["count"].to_list() == [5, 5, 5]
    assert full.columns == ["id", "text", "price", "label", f"shop{NASTY}"]  # unused ones too
    assert full[f"shop{NASTY}"].null_count() > 0  # as they stand, not filled
    assert debug.join(partial, on="text", how="anti").height == 0
    stamps = [file.stat().st_mtime_ns for file in files]
    call(config, "-o", folder / "look.html", "--write-subsets")  # the same again changes nothing
    assert [file.stat().st_mtime_ns for file in files] == stamps


def test_a_table_in_the_way_is_not_overwritten(config: Path, tmp_path: Path) -> None:
    mine = tmp_path / "shops_partial.parquet"
    mine.write_bytes(b"mine")
    with pytest.raises(FoldwiseError) as raised:
        call(config, "-o", tmp_path / "look.html", "--write-subsets")
    assert str(raised.value) == (
        f"{mine}: exists with other content, from another table or seed: move it away or choose "
        "another folder"
    )
    assert mine.read_bytes() == b"mine"
    assert not (tmp_path / "shops_full.parquet").exists()
    assert not (tmp_path / "look.html").exists()


def test_subsets_need_classes(config: Path, tmp_path: Path) -> None:
    with pytest.raises(FoldwiseError) as raised:
        call(
            config,
            *("-o", tmp_path / "look.html", "--write-subsets", "--set", "task=regression"),
            *("--set", "data.target=price", "--set", "data.numeric=[]", "--set", "metrics=[rmse]"),
            *("--set", "selection.metric=rmse", "--set", "loss.name=mse"),
            *("--set", "loss.class_weights=none"),
        )
    assert str(raised.value) == (
        "--write-subsets: draws rows by class, and task regression has none; draw rows with "
        "data.sample"
    )


def test_the_embedded_sample_needs_no_file(config: Path, tmp_path: Path) -> None:
    printed = call(
        config,
        *("-o", tmp_path / "look.html", "--set", "data.path=synthetic:700"),
        *("--set", "data.target=Product", "--set", "data.text=[Consumer complaint narrative]"),
        *("--set", "data.categorical=[Sub-issue]", "--set", "data.numeric=[]"),
    )
    assert "Product: 18 classes" in printed
