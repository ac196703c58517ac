"""What the linear member sees in rows that are answered alike: words, cells, columns by class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import logit

from conftest import FILLER
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.evaluation.linear_words import Seen, seen_by_class
from foldwise.members.linear import Linear
from foldwise.members.roster import columns_read
from foldwise.members.store import save_state
from foldwise.report.linear_words import sections
from foldwise.run.folder import RunFolder
from foldwise.run.seal import add

Floats = np.ndarray
PLANTED = ("fee", "lawsuit", "student")
HOSTILE = "<script>alert(1)</script>"


def table_of(classes: int, rows: int = 120) -> tuple[pl.DataFrame, Floats]:
    """Rows whose text, category and number each tell something of their class."""
    random = np.random.default_rng(4)
    target = np.arange(rows) % classes
    texts = [
        " ".join([*random.choice(FILLER, 6), PLANTED[t % 3] * (random.random() < 0.8), "the"])
        for t in target
    ]
    kinds = [HOSTILE if t == 0 else f"kind {t}" if random.random() < 0.9 else None for t in target]
    amounts = target + random.normal(size=rows)
    columns = {"row": np.arange(rows), "text": texts, "kind": kinds, "amount": amounts}
    return pl.DataFrame(columns), target


def fitted(
    config: Config, holds: Any, values: Floats, frame: pl.DataFrame, n_outputs: int
) -> tuple[RunFolder, list[Linear]]:
    """A run whose two folds hold a linear member each, of the other half of the rows."""
    run, members = RunFolder(Path(config.run.dir) / config.run.name), []
    for number in (1, 2):
        fold = run.fold(number)
        train = np.flatnonzero(np.arange(len(values)) // 3 % 2 != number - 1)
        member = Linear(holds, n_outputs, columns_read(config), config.run.seed)
        member.fit(frame[train], values[train], np.zeros(len(train), dtype=bool))
        place = fold.member("linear")
        save_state(place.path, member.state())
        add(fold.path, "members", [place.state, place.arrays])
        members.append(member)
    return run, members


@pytest.fixture
def config(make_config: Callable[..., Config]) -> Config:
    return make_config(data={"categorical": ["kind"], "numeric": ["amount"]})


def scored(frame: pl.DataFrame, prediction: Any) -> pl.DataFrame:
    fold = (np.arange(frame.height) // 3 % 2 + 1).astype(np.int32)
    return pl.DataFrame({"row": frame["row"], "fold": fold, "prediction": prediction})


def margins_of(holds: str, members: list[Linear], frame: pl.DataFrame, output: int) -> Floats:
    """The margin of each row by the member of its fold, from its predictions alone."""
    found = np.empty(frame.height)
    for number, member in enumerate(members, 1):
        at = np.flatnonzero(np.arange(frame.height) // 3 % 2 + 1 == number)
        made = member.predict(frame[at])
        if holds == "number":
            found[at] = made[:, 0]
        elif holds == "labels":
            found[at] = logit(made[:, output])
        else:
            others = np.delete(np.log(made), output, axis=1).mean(axis=1)
            found[at] = np.log(made[:, output]) - others
    return found


def over_all(margins: Floats, chosen: Floats) -> float:
    """The mean over chosen rows, less, fold by fold, that over all rows."""
    fold = np.arange(len(margins)) // 3 % 2
    parts = [
        (fold == k)[chosen].sum()
        * (margins[chosen & (fold == k)].mean() - margins[fold == k].mean())
        for k in (0, 1)
    ]
    return float(sum(parts) / chosen.sum())


def strongest(each: Seen) -> str:
    return each.words[0][1]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_columns_sum_to_the_margin_and_the_planted_words_and_cells_lead(
    config: Config, classes: int
) -> None:
    frame, target = table_of(classes)
    names = [f"class {i}" for i in range(classes)]
    run, members = fitted(config, "label", target, frame, classes)
    task = SimpleNamespace(holds="label", classes=names)
    seen = seen_by_class(run, config, task, scored(frame, [names[t] for t in target]), frame)
    assert [each.name for each in seen] == names
    for output, each in enumerate(seen):
        assert each.rows == (target == output).sum()
        margins = margins_of("label", members, frame, output)
        assert sum(each.columns.values()) == pytest.approx(over_all(margins, target == output))
        assert each.columns["text"] > 0
        assert each.columns["kind"] > 0
        assert each.cells[0][:2] == ("kind", HOSTILE if output == 0 else f"kind {output}")
        adds = {word: value for _, word, value in each.words}
        assert adds.get("the", 0.0) < 0.2 * each.words[0][2]  # all rows have it
        if classes <= 3:
            assert strongest(each) == PLANTED[output]


def test_of_labels_each_is_looked_at_in_all_rows_that_have_it(config: Config) -> None:
    frame, target = table_of(3)
    values = np.stack([target == 0, target != 2], axis=1).astype(float)
    run, members = fitted(config, "labels", values, frame, 2)
    task = SimpleNamespace(holds="labels", classes=["a", "b"], half=SimpleNamespace(separator="|"))
    said = [["a|b", "b", ""][t] for t in target]
    seen = {
        each.name: each for each in seen_by_class(run, config, task, scored(frame, said), frame)
    }
    assert {name: each.rows for name, each in seen.items()} == {"a": 40, "b": 80}
    assert strongest(seen["a"]) == "fee"
    for output, name in enumerate("ab"):
        margins = margins_of("labels", members, frame, output)
        expected = over_all(margins, values[:, output] > 0)
        assert sum(seen[name].columns.values()) == pytest.approx(expected)


def test_of_numbers_the_highest_and_the_lowest_answers_are_looked_at(config: Config) -> None:
    frame, target = table_of(3)
    values = 1000.0 + 50.0 * target
    run, members = fitted(config, "number", values[:, None], frame, 1)
    task = SimpleNamespace(holds="number", classes=[])
    high, low = seen_by_class(run, config, task, scored(frame, values), frame)
    assert (high.rows, low.rows) == (40, 40)
    assert (strongest(high), strongest(low).split()[0]) == ("student", "fee")
    margins = margins_of("number", members, frame, 0)
    assert sum(high.columns.values()) == pytest.approx(over_all(margins, target == 2))
    assert sum(low.columns.values()) == pytest.approx(-over_all(margins, target == 0))


def test_a_run_without_the_member_has_nothing_and_a_damaged_one_is_named(config: Config) -> None:
    frame, target = table_of(3)
    task = SimpleNamespace(holds="label", classes=["a", "b", "c"])
    table = scored(frame, [task.classes[t] for t in target])
    run = RunFolder(Path(config.run.dir) / config.run.name)
    assert seen_by_class(run, config, task, table, frame) == []
    fitted(config, "label", target, frame, 3)
    place = run.fold(2).member("linear").arrays
    place.write_bytes(place.read_bytes()[:-1] + b"x")
    with pytest.raises(FoldwiseError, match=r"arrays\.safetensors"):
        seen_by_class(run, config, task, table, frame)


def test_the_section_says_whose_words_these_are_and_shows_what_is_written(config: Config) -> None:
    frame, target = table_of(3)
    task: Any = SimpleNamespace(holds="label", classes=[HOSTILE, "b", "c"])
    run, _ = fitted(config, "label", target, frame, 3)
    table = scored(frame, [task.classes[t] for t in target])
    source: Any = SimpleNamespace(run=run, config=config, task=task, frame=frame)
    (section,) = sections(source, table, {"answer": {"weights": {"model": 0.75, "linear": 0.25}}})
    assert section.title == "Words and columns by class"
    assert "the linear member, which has 25% of the answer&#39;s weight" in section.body
    assert "<script" not in section.body
    assert "&lt;script&gt;alert(1)" in section.body
    (section,) = sections(source, table, {})
    assert "which has no part in the answer" in section.body
    source.frame = None
    assert sections(source, table, {}) == []


def test_very_many_classes_are_the_most_frequent_hundred(config: Config) -> None:
    frame, target = table_of(117, rows=468)
    run, _ = fitted(config, "label", target, frame, 117)
    task: Any = SimpleNamespace(holds="label", classes=[f"c{i}" for i in range(117)])
    table = scored(frame, [task.classes[t] for t in target])
    source: Any = SimpleNamespace(run=run, config=config, task=task, frame=frame)
    (section,) = sections(source, table, {})
    assert section.body.count("<tr>") == 2 * 101
    assert "Shown are the 100 most frequent answers." in section.body
