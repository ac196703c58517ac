"""Near-duplicates are searched for once; what is kept of it is read whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from foldwise.errors import FoldwiseError
from foldwise.table import groups
from foldwise.table.groups import Grouped, group_texts

TEXTS = pl.DataFrame({"t": ["one text", "another", "One text!", None, "another", None]})
FOUND = [0, 1, 0, 2, 1, 3]


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each search."""
    made: list[int] = []
    find = groups.find_duplicates

    def counted(texts: pl.DataFrame, *given: Any) -> Any:
        made.append(texts.height)
        return find(texts, *given)

    monkeypatch.setattr(groups, "find_duplicates", counted)
    return made


def kept(stores: Path, texts: pl.DataFrame = TEXTS) -> Path:
    found = group_texts(texts, "near", 0.8, stores)
    found.keep()
    assert found.path is not None
    return found.path


def test_groups_that_were_kept_are_read_and_not_searched_again(
    tmp_path: Path, searches: list[int]
) -> None:
    stores = tmp_path / "runs" / ".tokens"
    first = group_texts(TEXTS, "near", 0.8, stores)
    assert not stores.exists()  # nothing is written before the input is known to be good
    first.keep()
    again = group_texts(TEXTS, "near", 0.8, stores)
    assert searches == [6]
    assert first.group.tolist() == again.group.tolist() == FOUND
    assert again.group.dtype == first.group.dtype == np.int64
    again.group[0] = 9  # an array of one's own


@pytest.mark.parametrize(
    ("texts", "how", "similarity"),
    [
        (TEXTS, "near", 0.7),
        (TEXTS, "identical", 0.8),
        (TEXTS.with_columns(pl.col("t").fill_null("")), "near", 0.8),
        (TEXTS.with_columns(pl.col("t").str.to_uppercase()), "near", 0.8),
        (TEXTS.with_columns(u=pl.lit(None, pl.String)), "near", 0.8),
        (TEXTS.reverse(), "near", 0.8),
    ],
)
def test_other_texts_and_other_rules_are_searched_anew(
    tmp_path: Path, searches: list[int], texts: pl.DataFrame, how: Any, similarity: float
) -> None:
    kept(tmp_path)
    group_texts(texts, how, similarity, tmp_path).keep()
    assert searches == [6, 6]
    assert len(list(tmp_path.glob("*.groups"))) == 2


def test_cells_that_are_cut_elsewhere_are_other_texts(tmp_path: Path, searches: list[int]) -> None:
    kept(tmp_path, pl.DataFrame({"t": ["ab", "c"]}))
    kept(tmp_path, pl.DataFrame({"t": ["a", "bc"]}))
    assert searches == [2, 2]


def test_the_similarity_of_identical_texts_is_no_matter(
    tmp_path: Path, searches: list[int]
) -> None:
    group_texts(TEXTS, "identical", 0.8, tmp_path).keep()
    group_texts(TEXTS, "identical", 0.5, tmp_path).keep()
    assert searches == [6]


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "renamed", "a folder", "a link"])
def test_what_is_damaged_is_told_searched_and_kept_again(
    tmp_path: Path, searches: list[int], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kept(tmp_path)
    content = path.read_bytes()
    if damage == "flipped":
        path.write_bytes(content[:-1] + b"\1")
    elif damage == "renamed":
        kept(tmp_path, TEXTS.reverse()).rename(path)
    elif damage == "a folder":
        path.unlink()
        path.mkdir()
    elif damage == "a link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_bytes(content[:40] if damage == "short" else b"")
    searches.clear()
    found = group_texts(TEXTS, "near", 0.8, tmp_path)
    assert found.group.tolist() == FOUND
    assert searches == [6]
    assert capsys.readouterr().err == f"warning: {path}: not as it was written; made anew\n"
    if damage == "a folder":
        with pytest.raises(
            FoldwiseError, match=r"\.groups: is a folder; remove it, a file belongs"
        ):
            found.keep()
    else:
        found.keep()
        assert path.read_bytes() == content
        assert not path.is_symlink()


def test_no_groups_are_kept_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".tokens").symlink_to(tmp_path / "elsewhere")
    found = group_texts(TEXTS, "near", 0.8, tmp_path / ".tokens")
    with pytest.raises(FoldwiseError, match="is a link; remove it, token stores lie beside"):
        found.keep()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_rows_each_on_their_own_are_not_worth_a_file(tmp_path: Path) -> None:
    group_texts(TEXTS, "ignore", 0.8, tmp_path).keep()
    Grouped(np.arange(3)).keep()
    assert list(tmp_path.iterdir()) == []
