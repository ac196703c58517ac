"""Duplicates: same and nearly same texts get one group, whatever the order and the process."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.hardware import cores
from foldwise.table.duplicates import disagreements, find_duplicates

LETTER = " ".join(f"word{at}" for at in range(60))


def texts(*cells: str | None) -> pl.DataFrame:
    return pl.DataFrame({"text": cells}, schema={"text": pl.String})


def changed(text: str, at: int, new: str) -> str:
    words = text.split()
    words[at] = new
    return " ".join(words)


def jaccard(first: str, second: str) -> float:
    a, b = (
        {tuple(w[i : i + 3]) for i in range(len(w) - 2)} for w in (first.split(), second.split())
    )
    return len(a & b) / len(a | b)


def partition(group: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(group == number).tolist()) for number in group}


@pytest.mark.parametrize(
    "variant",
    [
        "MY CARD WAS CHARGED TWICE",
        "My card, was charged... twice!",
        "  my\tcard\nwas charged   twice ",
        "ｍｙ card was charged twice",  # noqa: RUF001 - full-width letters are the point
        "My_card was—charged twice",
    ],
)
def test_identical_ignores_case_punctuation_white_space_and_unicode_form(variant: str) -> None:
    found = find_duplicates(texts("My card was charged twice", "other", variant), "identical", 0.8)
    assert found.group.tolist() == [0, 1, 0]


def test_identical_folds_case_beyond_lower_case() -> None:
    assert find_duplicates(texts("Straße", "STRASSE"), "identical", 0.8).largest == 2


def test_identical_does_not_join_texts_that_differ_by_one_word() -> None:
    found = find_duplicates(texts(LETTER, changed(LETTER, 3, "x1")), "identical", 0.1)
    assert found.group.tolist() == [0, 1]


def test_vowel_signs_of_indic_scripts_tell_words_apart() -> None:
    assert find_duplicates(texts("की", "का", "क"), "identical", 0.8).largest == 1


def test_texts_of_symbols_alone_are_compared_as_they_stand() -> None:
    found = find_duplicates(texts("?!", "...", "?! ", "👍", "👍"), "identical", 0.8)
    assert found.group.tolist() == [0, 1, 0, 2, 2]


def test_redaction_masks_of_any_number_are_one_word() -> None:
    found = find_duplicates(
        texts("I paid XXXX on XX/XX/2020", "I paid XXXX XXXX XXXX on XX/XX/2020", "I paid on 2020"),
        "identical",
        0.8,
    )
    assert found.group.tolist() == [0, 0, 1]


def test_a_masked_zip_code_keeps_its_digits() -> None:
    assert find_duplicates(texts("zip 331XX", "zip 902XX"), "identical", 0.8).largest == 1


def test_near_joins_planted_near_duplicates_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    letters = [" ".join(f"w{n}" for n in rng.integers(0, 400, size=80)) for _ in range(40)]
    copies = [changed(letter, at % 80, "changed") for at, letter in enumerate(letters)]
    assert min(map(jaccard, letters, copies)) > 0.9
    found = find_duplicates(texts(*letters, *copies), "near", 0.8)
    assert found.group.tolist() == list(range(40)) * 2
    assert (found.n_groups_multi, found.rows_in_groups, found.largest) == (40, 80, 2)


def test_similarity_is_the_threshold_that_joins() -> None:
    pair = LETTER, changed(changed(LETTER, 20, "x1"), 40, "x2")
    assert 0.80 < jaccard(*pair) < 0.82
    assert find_duplicates(texts(*pair), "near", 0.7).largest == 2
    assert find_duplicates(texts(*pair), "near", 0.92).largest == 1


def test_candidates_below_the_threshold_are_not_joined() -> None:
    # at 0.67 nearly every pair shares one of the bands that the threshold 0.8 needs
    letters = [LETTER.replace("word", f"pair{pair}w") for pair in range(30)]
    copies = letters
    for at in (7, 19, 31, 43):
        copies = [changed(copy, at, f"new{at}") for copy in copies]
    assert max(map(jaccard, letters, copies)) < 0.68
    assert find_duplicates(texts(*letters, *copies), "near", 0.8).largest == 1


def test_near_is_transitive() -> None:
    chain = [LETTER]
    for at in (5, 15, 25, 35, 45, 55):
        chain.append(changed(chain[-1], at, f"new{at}"))
    assert jaccard(chain[0], chain[-1]) < 0.6
    assert find_duplicates(texts(*chain), "near", 0.8).largest == 7


def test_near_also_joins_identical_texts_under_three_words() -> None:
    found = find_duplicates(texts("Late fee", "late fee!", "fee late", "Late"), "near", 0.8)
    assert found.group.tolist() == [0, 0, 1, 2]


def test_near_agrees_with_all_pairs_exact_jaccard() -> None:
    rng = np.random.default_rng(1)
    letters = []
    for letter in range(30):
        base = [f"l{letter}w{n}" for n in range(70)]
        for copy in range(4):
            words = list(base)
            for at in rng.choice(70, size=copy, replace=False):
                words[at] = f"new{rng.integers(10**6)}"
            letters.append(" ".join(words))
    found = find_duplicates(texts(*letters), "near", 0.6)
    together = found.group[:, None] == found.group[None]
    exact = np.array([[jaccard(a, b) for b in letters] for a in letters])
    assert together[exact >= 0.7].all()
    assert not together[exact < 0.5].any()


def test_a_bucket_beyond_the_window_is_still_one_group() -> None:
    letters = [changed(LETTER, row % 60, f"own{row}") for row in range(300)]
    assert find_duplicates(texts(*letters), "near", 0.8).largest == 300


def test_rows_without_text_are_each_on_their_own() -> None:
    frame = pl.DataFrame(
        {"a": [None, "", " ", "same", None], "b": [None, None, "", None, "same"]},
        schema={"a": pl.String, "b": pl.String},
    )
    for how in ("near", "identical"):
        assert find_duplicates(frame, how, 0.8).group.tolist() == [0, 1, 2, 3, 3]


def test_all_text_columns_count() -> None:
    frame = pl.DataFrame({"title": ["a", "a", "a"], "body": ["one two", "one two", "three"]})
    assert find_duplicates(frame, "near", 0.8).group.tolist() == [0, 0, 1]


def test_ignore_leaves_every_row_alone() -> None:
    found = find_duplicates(texts("same", "same", None), "ignore", 0.8)
    assert found.group.tolist() == [0, 1, 2]
    assert (found.n_groups_multi, found.rows_in_groups, found.largest) == (0, 0, 1)


@pytest.mark.parametrize("how", ["near", "identical", "ignore"])
def test_an_empty_table_has_no_groups(how: str) -> None:
    found = find_duplicates(texts(), how, 0.8)
    assert (found.group.shape, found.group.dtype, found.largest) == ((0,), np.int64, 0)


@settings(max_examples=40, deadline=None)
@given(
    cells=st.lists(st.sampled_from(["a b c d", "A b, c d", "a b c e", "", None, "z", "a b"])),
    seed=st.integers(0, 2**16),
)
def test_the_partition_does_not_depend_on_the_order_of_rows(
    cells: list[str | None], seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(cells))
    group = find_duplicates(texts(*cells), "near", 0.5).group
    shuffled = find_duplicates(texts(*(cells[at] for at in order)), "near", 0.5).group
    back = np.empty_like(shuffled)
    back[order] = shuffled
    assert partition(back) == partition(group)
    first = [group.tolist().index(number) for number in dict.fromkeys(group.tolist())]
    assert [int(group[at]) for at in first] == list(range(len(first)))


def test_groups_are_the_same_in_a_process_with_another_hash_seed() -> None:
    # at a similarity of 0.73 and a threshold of 0.73 it is the hash that decides each pair
    code = (
        "import polars as pl; from foldwise.table.duplicates import find_duplicates\n"
        "pairs = [[f'p{pair}w{at}' for at in range(40)] for pair in range(60)]\n"
        "copies = [[*pair[:10], 'new', *pair[11:30], 'new', *pair[31:]] for pair in pairs]\n"
        "rows = [' '.join(words) for words in pairs + copies]\n"
        "print(find_duplicates(pl.DataFrame({'t': rows}), 'near', 32 / 44).n_groups_multi)\n"
        "print(find_duplicates(pl.DataFrame({'t': rows}), 'near', 32 / 44).group.tolist())"
    )
    out = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert out[0] == out[1]
    assert 10 < int(out[0].split()[0]) < 50


def test_disagreements_counts_groups_with_more_than_one_label() -> None:
    group = np.array([0, 0, 1, 1, 2, 3, 3, 3])
    assert disagreements(group, ["a", "a", "a", "b", "c", "d", "d", "e"]) == 2


def test_disagreements_of_single_rows_are_none() -> None:
    assert disagreements(np.arange(3), pl.Series(["a", "b", "c"])) == 0


@pytest.mark.parametrize("limit", ["STRETCH_ROWS", "STRETCH_BYTES"])
def test_groups_do_not_hang_on_how_much_is_read_at_once(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One bucket of 90 letters, which is beyond the window, beside pairs and texts that are alone.
    rng = np.random.default_rng(0)
    letters = [changed(LETTER, at % 60, f"own{at}") for at in range(90)]
    alone = [" ".join(f"w{n}" for n in rng.integers(0, 400, size=40)) for _ in range(30)]
    rows = texts(*letters, *alone, None, *(changed(text, 3, "new") for text in alone[:10]), "", "")
    whole = find_duplicates(rows, "near", 0.8)
    assert (whole.largest, whole.n_groups_multi) == (90, 11)
    monkeypatch.setattr(cores, limit, 7)
    assert np.array_equal(find_duplicates(rows, "near", 0.8).group, whole.group)
