from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats.contingency import association
from sklearn.metrics import f1_score

from eda.tables import clean
from foldwise.config.schema import Config
from foldwise.eda import leaks
from foldwise.eda.leaks import f1_macro
from foldwise.eda.missingness import cramers_v
from foldwise.eda.tokens import count_tokens
from foldwise.encoding.text import encode, frame_of
from foldwise.models.backbone import load_tokenizer
from foldwise.models.resolve import resolve_backbone
from foldwise.table.duplicates import join_groups

Looking = Callable[..., Any]


def test_macro_f1_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    target, prediction = rng.integers(6, size=300), rng.integers(5, size=300)
    expected = f1_score(target, prediction, average="macro")
    assert f1_macro(target, prediction, 9) == pytest.approx(expected)


def test_cramers_v_is_one_for_a_copy_and_near_zero_for_chance() -> None:
    assert cramers_v(np.array([[50, 0], [0, 50]])) == pytest.approx((1.0, 0.0), abs=1e-9)
    assert cramers_v(np.array([[25, 25], [25, 25]])) == (0.0, 1.0)
    assert cramers_v(np.array([[10, 20], [0, 0]])) == (0.0, 1.0)


def test_cramers_v_differs_from_the_plain_one_by_its_correction_only() -> None:
    # On many rows the bias that the correction takes out is nothing.
    counts = np.array([[3000, 1000, 4000], [1000, 9000, 2000]]) * 100
    plain = association(counts, method="cramer")
    assert cramers_v(counts)[0] == pytest.approx(plain, abs=1e-4)


@pytest.mark.parametrize(
    "columns", [{"categorical": ["shop"], "numeric": ["price"]}, {"categorical": [], "numeric": []}]
)
@pytest.mark.parametrize("fusion", ["text", "concat"])
def test_lengths_are_those_of_the_runs_inputs(
    make_config: Callable[..., Config], columns: dict[str, list[str]], fusion: str
) -> None:
    if fusion == "concat" and not columns["categorical"]:
        return
    frame = clean(30).with_columns(pl.col("price").cast(pl.Float64))
    config = make_config(data=columns, model={"fusion": fusion})
    rows = SimpleNamespace(config=config, used=frame)
    in_text = [*config.data.numeric, *config.data.categorical] if fusion == "text" else []
    tokenizer = load_tokenizer(resolve_backbone(config.model.backbone).folder)
    store = encode(frame, [*in_text, "text"], tokenizer)
    found = count_tokens(rows)  # type: ignore[arg-type]
    assert found is not None
    expected = (store.lengths + frame_of(tokenizer).size).tolist()
    assert found.lengths.tolist() == expected
    assert found.window == 64


def test_lengths_are_those_of_the_packaged_tokenizer(make_config: Callable[..., Config]) -> None:
    name = "sentence-transformers/all-MiniLM-L6-v2"
    tokenizer = load_tokenizer(resolve_backbone(name).folder)
    texts = ["Café naïve [SEP] 12.5% \u4e2d\u6587 ", "", "word " * 700]
    frame = pl.DataFrame({"text": texts, "shop": ["a", None, "c d"]})
    config = make_config(model={"backbone": name}, data={"categorical": ["shop"]})
    found = count_tokens(SimpleNamespace(config=config, used=frame))  # type: ignore[arg-type]
    assert found is not None
    store = encode(frame, ["shop", "text"], tokenizer)
    assert found.lengths.tolist() == (store.lengths + 2).tolist()
    assert found.longer_than(512) == pytest.approx(1 / 3)


def test_many_rows_are_sampled_and_it_is_said(
    look: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldwise.eda.tokens.MOST_ROWS", 100)
    monkeypatch.setattr(leaks, "MOST_ROWS", 120)
    found, _ = look(clean())
    assert (len(found.tokens.lengths), found.tokens.rows, found.tokens.sampled) == (100, 400, True)
    assert found.leaks.rows == 120


def test_a_value_a_row_earns_nothing_by_repeating_a_templates(look: Looking) -> None:
    # Twins share their id; apart they would be a lookup table of the target.
    frame = clean()
    twins = frame.with_columns((pl.col("text") + " again").alias("text"))
    found, _ = look(pl.concat([frame, twins]))
    (power,) = [power for power in found.leaks.powers if power.column == "id"]
    assert power.scores["accuracy"] < 0.45


def test_dates_are_cut_in_their_order(look: Looking) -> None:
    labels = clean()["label"].to_list()
    year = {"red": 2001, "green": 2002, "blue": 2003}
    days = [f"{year[label]}-01-{i % 28 + 1:02d}" for i, label in enumerate(labels)]
    found, _ = look(clean().with_columns(pl.Series("day", days)))
    (power,) = [power for power in found.leaks.powers if power.column == "day"]
    assert power.scores["accuracy"] == 1


def test_groups_that_share_a_value_are_joined() -> None:
    group = np.array([5, 5, 7, 9, 9, 3])
    values = pl.Series(["a", "b", "b", None, None, "c"])
    assert join_groups(group, values).tolist() == [0, 0, 0, 1, 1, 2]
