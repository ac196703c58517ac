"""Every member, on each kind of target: fitted on training rows, saved, read back, the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from foldwise.errors import FoldwiseError
from foldwise.members.boosting import Boosting
from foldwise.members.constant import Constant, Median
from foldwise.members.embedding import Embedding
from foldwise.members.linear import Linear
from foldwise.members.lookup import Lookup
from foldwise.members.member import (
    EMBEDDING,
    MIDDLE,
    Columns,
    vectors_of,
    with_vectors,
)
from foldwise.members.network import Network, _order
from foldwise.members.queries import Tokens
from foldwise.members.states import TokenStates
from foldwise.members.store import ARRAYS, STATE, load_state, restore, save_state
from foldwise.members.vectors import scales_of

COLUMNS = Columns(("story",), ("channel", "postcode"), ("amount",))
MADE = {
    "constant": lambda holds, n: Constant(n),
    "median": lambda holds, n: Median(n),
    "lookup": lambda holds, n: Lookup(n, COLUMNS, seed=0),
    "linear": lambda holds, n: Linear(holds, n, COLUMNS, seed=0),
    "embedding": lambda holds, n: Embedding(holds, n, COLUMNS, seed=0),
    "network": lambda holds, n: Network(holds, n, COLUMNS, seed=0),
    "boosting": lambda holds, n: Boosting(holds, n, COLUMNS, seed=0),
}
LEARNING = ("linear", "embedding", "network", "boosting")


def table(rows: int, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Three classes told apart by a word of the story, by the vectors, mostly by the channel."""
    random = np.random.default_rng(seed)
    target = random.integers(0, 3, rows)
    told = np.array(["card", "loan", "mortgage"])[target]
    noise = random.choice(["please", "help", "me", "now", "thanks"], (rows, 4))
    channel = np.where(random.random(rows) < 0.8, target, random.integers(0, 3, rows))
    vectors = random.normal(size=(rows, 8)).astype(np.float32)
    vectors[np.arange(rows), target] += 3
    frame = pl.DataFrame(
        {
            "story": [" ".join([*words, word]) for words, word in zip(noise, told, strict=True)],
            "channel": np.array(["web", "phone", "mail"])[channel],
            "postcode": [f"p{i}" for i in range(rows)],  # a new value in every row
            "amount": random.normal(size=rows) + target,
            EMBEDDING: vectors,
            MIDDLE: random.normal(size=(rows, 8)).astype(np.float32),
        }
    )
    return frame, target


def as_kind(holds: str, target: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the classes as what a kind of target holds, and how many outputs that has."""
    if holds == "label":
        return target, 3
    if holds == "labels":
        return np.stack([target == 0, target >= 1], axis=1).astype(np.float64), 2
    return 1e9 + 10.0 * target[:, None], 1


def fitted(name: str, holds: str, rows: int = 120) -> tuple[Any, pl.DataFrame, np.ndarray]:
    train, target = table(rows)
    given, n = as_kind(holds, target)
    member = MADE[name](holds, n)
    inner = np.arange(rows) % 8 == 0
    member.fit(train, given, inner)
    return member, train, given


@pytest.mark.parametrize("holds", ["label", "labels", "number"])
@pytest.mark.parametrize("name", list(MADE))
def test_what_is_read_back_predicts_the_same_bytes(name: str, holds: str, tmp_path: Path) -> None:
    member, _, _ = fitted(name, holds)
    new, _ = table(30, seed=1)
    save_state(tmp_path / "member", member.state())
    again = MADE[name](holds, as_kind(holds, np.arange(3))[1])
    again.load_state(load_state(tmp_path / "member"))
    assert again.predict(new).tobytes() == member.predict(new).tobytes()
    assert member.predict(new).dtype == np.float64


@pytest.mark.parametrize("holds", ["label", "labels", "number"])
@pytest.mark.parametrize("name", LEARNING)
def test_members_learn_each_kind_of_target(name: str, holds: str) -> None:
    member, _, _ = fitted(name, holds, rows=240)
    new, truth = table(120, seed=1)
    made, (wanted, _) = member.predict(new), as_kind(holds, truth)
    if holds == "label":
        assert (made.argmax(axis=1) == wanted).mean() > 0.9
    elif holds == "labels":
        assert ((made > 0.5) == wanted).mean() > 0.9
    else:
        assert np.abs(made - wanted).mean() < 4  # of 0, 10 and 20, a billion above zero


@pytest.mark.parametrize("name", ["constant", "lookup", *LEARNING])
def test_probabilities_sum_to_one_and_are_zero_for_classes_absent_from_training(name: str) -> None:
    train, target = table(90)
    member = MADE[name]("label", 5)
    member.fit(train, target * 2, np.arange(90) % 8 == 0)  # ids 0, 2 and 4 of 5 occur
    made = member.predict(table(20, seed=1)[0])
    assert made.shape == (20, 5)
    np.testing.assert_allclose(made.sum(axis=1), 1)
    assert (made[:, [1, 3]] == 0).all()
    assert (made[:, [0, 2, 4]].sum(axis=0) > 0).all()


@pytest.mark.parametrize("name", list(MADE))
def test_the_rows_to_predict_change_nothing_that_is_fitted(name: str) -> None:
    member, _, _ = fitted(name, "label", rows=90)
    new, _ = table(12, seed=1)
    alone = np.vstack([member.predict(new[i : i + 1]) for i in range(12)])
    np.testing.assert_allclose(member.predict(new), alone, atol=1e-12)


@pytest.mark.parametrize("name", list(MADE))
def test_members_take_nulls_new_categories_and_no_rows(name: str) -> None:
    member, train, _ = fitted(name, "label", rows=90)
    odd = train[:3].with_columns(
        pl.Series("story", [None, "", "mortgage"]),
        pl.Series("channel", [None, "pigeon", "web"]),
        pl.Series("postcode", [None, None, None], dtype=pl.String),
        pl.Series("amount", [None, float("inf"), 1.0]),
    )
    odd = odd.with_columns(pl.col("amount").replace(float("inf"), None))
    np.testing.assert_allclose(member.predict(odd).sum(axis=1), 1)
    assert member.predict(train[:0]).shape == (0, 3)


@pytest.mark.parametrize("holds", ["label", "labels", "number"])
@pytest.mark.parametrize("name", list(MADE))
def test_a_target_that_is_always_the_same_is_what_is_predicted(name: str, holds: str) -> None:
    train, _ = table(40)
    target, n = as_kind(holds, np.zeros(40, dtype=np.int64))
    member = MADE[name](holds, n)
    member.fit(train, target, np.arange(40) % 8 == 0)
    made = member.predict(train[:2])
    expected = [[1, 0, 0]] if holds == "label" else target[:1]
    np.testing.assert_allclose(made, np.repeat(expected, 2, axis=0), atol=1e-6)


def test_lookup_chooses_its_column_on_held_out_training_rows() -> None:
    # Within the training rows a unique postcode is always right; on rows held out, never.
    member, _, _ = fitted("lookup", "label", rows=90)
    assert member.column == "channel"


def test_a_lookup_gives_a_new_value_what_all_rows_say() -> None:
    member = Lookup(3, Columns((), ("channel",), ()), seed=0)
    rows = pl.DataFrame({"channel": ["web", "web", "mail", None]})
    member.fit(rows, np.array([0, 1, 1, 2]), np.zeros(4, dtype=bool))
    new = pl.DataFrame({"channel": ["web", "pigeon", None, "mail"]})
    expected = [[0.5, 0.5, 0], [0.25, 0.5, 0.25], [0, 0, 1], [0, 1, 0]]
    np.testing.assert_array_equal(member.predict(new), expected)


def test_boosting_stops_on_the_inner_rows() -> None:
    # Inner rows that say the opposite of the others stop the trees at once.
    train, target = table(240)
    inner = np.arange(240) % 2 == 0
    member = Boosting("label", 3, COLUMNS, seed=0)
    member.fit(train, np.where(inner, (target + 1) % 3, target), inner)
    assert member.models[0].count <= 3 * 3
    member.fit(train, target, inner)
    assert member.models[0].count > 3 * 10


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    save_state(tmp_path, {"value": np.arange(3.0)})
    arrays = tmp_path / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:20])
    with pytest.raises(FoldwiseError, match=r"arrays\.safetensors"):
        load_state(tmp_path)


@pytest.mark.parametrize("column", [EMBEDDING, MIDDLE])
@pytest.mark.parametrize("name", ["embedding", "network", "boosting"])
def test_both_vectors_of_a_text_are_read(name: str, column: str) -> None:
    told, target = table(240)
    noise = pl.Series(np.zeros((240, 8), dtype=np.float32))
    other = MIDDLE if column == EMBEDDING else EMBEDDING
    train = told.select("story", told[EMBEDDING].alias(column), noise.alias(other))
    columns = Columns((), (), ())
    kind: Any = {"embedding": Embedding, "network": Network, "boosting": Boosting}[name]
    member = kind("label", 3, columns, seed=0)
    member.fit(train, target, np.arange(240) % 8 == 0)
    assert (member.predict(train).argmax(axis=1) == target).mean() > 0.9


def test_vectors_stand_in_a_column_each_and_side_by_side() -> None:
    both = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    rows = with_vectors(pl.DataFrame({"a": [1, 2]}), both)
    assert rows[EMBEDDING].to_list() == both[:, 0].tolist()
    assert rows[MIDDLE].to_list() == both[:, 1].tolist()
    assert vectors_of(rows).tolist() == both.reshape(2, 6).tolist()
    alone = with_vectors(pl.DataFrame({"a": [1, 2]}), both[:, :1])
    assert MIDDLE not in alone.columns
    assert vectors_of(alone).tolist() == both[:, 0].tolist()


def test_the_middle_counts_half_and_what_says_nothing_is_left_as_it_is() -> None:
    train, _ = table(60)
    constant = pl.Series(MIDDLE, np.full((60, 8), 0.1, dtype=np.float32))
    mean, scale, length = scales_of(train.with_columns(constant))
    top = train[EMBEDDING].to_numpy()
    np.testing.assert_allclose(mean[:8], top.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scale[:8], top.std(axis=0), rtol=1e-6)
    assert scale[8:].tolist() == [2.0] * 8  # one, for a constant, over a half
    assert length == pytest.approx((8 + 8 / 4) ** 0.5)
    assert scales_of(train.drop(EMBEDDING, MIDDLE))[2] == 0


def test_networks_follow_from_their_seed_and_draw_nothing_of_anybody_else() -> None:
    train, target = table(90)
    before = torch.get_rng_state()
    found = []
    for seed in (0, 0, 1):
        member = Network("label", 3, COLUMNS, seed=seed)
        member.fit(train, target, np.zeros(90, dtype=bool))
        found.append(member.predict(train).tobytes())
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_weigh_rare_classes_more_where_classes_are_balanced() -> None:
    random = np.random.default_rng(0)
    target = (random.random(400) < 0.1).astype(np.int64)
    vectors = random.normal(size=(400, 1, 4)).astype(np.float32)
    vectors[:, 0, 0] += target
    rows = with_vectors(pl.DataFrame({"a": np.arange(400)}), vectors)
    said = []
    for balanced in (False, True):
        member = Network("label", 2, Columns((), (), ()), seed=0, balanced=balanced)
        member.fit(rows, target, np.zeros(400, dtype=bool))
        said.append(member.predict(rows)[:, 1].mean())
    assert said[0] == pytest.approx(target.mean(), abs=0.05)
    assert said[1] > said[0] + 0.08


def test_networks_read_a_category_by_its_most_frequent_values() -> None:
    values = [f"v{i}" for i in range(600) for _ in range(3 if i < 500 else 2)]
    rows = pl.DataFrame({"channel": values})
    member = Network("number", 1, Columns((), ("channel",), ()), seed=0)
    member.fit(rows, np.arange(float(len(values)))[:, None], np.zeros(len(values), dtype=bool))
    (known,) = member.categories_known().values()
    assert sorted(known) == sorted(f"v{i}" for i in range(500))  # type: ignore[type-var]
    rare = member.predict(pl.DataFrame({"channel": ["v550", "v599", "new"]}))
    assert len(np.unique(rare)) == 1


def told_by_a_token(rows: int, seed: int = 0) -> tuple[pl.DataFrame, TokenStates, np.ndarray]:
    """Two classes: of many random tokens one, marked, tells; another takes it back in the mean."""
    random = np.random.default_rng(seed)
    lengths, target = random.integers(12, 31, rows), random.integers(0, 2, rows)
    states = random.normal(size=(int(lengths.sum()), 16)).astype(np.float16)
    tokens = TokenStates.behind_each_other(states, lengths)
    for start, length, kind in zip(tokens.starts, lengths, target, strict=True):
        teller, other = start + random.permutation(length)[:2]
        said = 3 if kind else -3
        states[teller, :2], states[other, :2] = (said, 3), (-said, -3)
    return read_as(tokens), tokens, target


def read_as(tokens: TokenStates) -> pl.DataFrame:
    ends = tokens.starts + tokens.lengths
    means = [
        tokens.states[start:end].astype(np.float32).mean(axis=0) if end > start else np.zeros(16)
        for start, end in zip(tokens.starts, ends, strict=True)
    ]
    frame = pl.DataFrame({"a": np.arange(len(tokens))})
    return with_vectors(frame, np.array(means, dtype=np.float32)[:, None])


def reader(holds: Any = "label", n: int = 2, seed: int = 0) -> Network:
    return Network(holds, n, Columns((), (), ()), seed=seed)


def on_tokens(rows: int = 80, seed: int = 0) -> Network:
    train, tokens, target = told_by_a_token(rows)
    member = reader(seed=seed)
    member.fit(train, target, np.zeros(rows, dtype=bool), tokens)
    return member


def files_of(member: Network, folder: Path) -> tuple[bytes, bytes]:
    save_state(folder, member.state())
    return (folder / STATE).read_bytes(), (folder / ARRAYS).read_bytes()


@pytest.mark.parametrize("holds", ["label", "labels", "number"])
def test_networks_learn_which_token_of_a_text_tells(holds: str) -> None:
    def as_told(target: np.ndarray) -> np.ndarray:
        if holds == "label":
            return target
        if holds == "labels":
            return np.stack([target == 1, target == 0], axis=1).astype(np.float64)
        return 1e9 + 10.0 * target[:, None]

    train, tokens, target = told_by_a_token(200)
    new, its_tokens, truth = told_by_a_token(150, seed=1)
    right = []
    for reading in (True, False):
        member = reader(holds, 1 if holds == "number" else 2)
        inner = np.zeros(200, dtype=bool)
        member.fit(train, as_told(target), inner, tokens if reading else None)
        made = member.predict(new, its_tokens if reading else None)
        if holds == "label":
            said = made[:, 1] > 0.5
        else:
            said = made[:, 0] > (0.5 if holds == "labels" else 1e9 + 5)
        right.append((said == truth).mean())
    assert right[0] > 0.9
    assert right[1] < 0.65  # the means say nothing


def test_networks_on_tokens_follow_from_their_seed_on_any_number_of_threads(
    tmp_path: Path,
) -> None:
    before, threads, found = torch.get_rng_state(), torch.get_num_threads(), []
    try:
        for place, (seed, number) in enumerate([(0, 1), (0, 1), (0, 2), (1, 1)]):
            torch.set_num_threads(number)
            found.append(files_of(on_tokens(seed=seed), tmp_path / str(place)))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]
    assert found[0] != found[3]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_text_is_predicted_alike_alone_and_beside_longer_ones() -> None:
    member, random = on_tokens(), np.random.default_rng(2)
    lengths = random.permutation(np.repeat([0, 1, 2, 7, 31, 90], 25))  # more than are read at once
    states = random.normal(size=(int(lengths.sum()), 16)).astype(np.float16)
    tokens = TokenStates.behind_each_other(states, lengths)
    new = read_as(tokens)
    beside = member.predict(new, tokens)
    alone = [member.predict(new[i : i + 1], tokens.take(np.array([i]))) for i in range(len(tokens))]
    np.testing.assert_allclose(beside, np.vstack(alone), atol=1e-9)
    assert beside[lengths > 0].std(axis=0).min() > 1e-3


def test_a_network_on_tokens_is_read_back_whole(tmp_path: Path) -> None:
    member, again = on_tokens(), reader()
    new, tokens, _ = told_by_a_token(30, seed=1)
    save_state(tmp_path, member.state())
    restore(again, tmp_path)
    assert again.predict(new, tokens).tobytes() == member.predict(new, tokens).tobytes()


def test_a_network_from_before_tokens_were_read_is_still_read_back(tmp_path: Path) -> None:
    train, _, target = told_by_a_token(80)
    member, again = reader(), reader()
    member.fit(train, target, np.zeros(80, dtype=bool))
    state = member.state()
    for name in ("attention", "token_mean", "token_scale"):
        del state[name]
    save_state(tmp_path, state)
    restore(again, tmp_path)
    assert again.predict(train).tobytes() == member.predict(train).tobytes()


@pytest.mark.parametrize(
    "path",
    [("attention", "0"), ("attention", "1"), ("attention", "2"), ("token_mean",), ("token_scale",)],
)
def test_attention_of_another_shape_is_refused(path: tuple[str, ...], tmp_path: Path) -> None:
    whole = on_tokens().state()
    for spoil in (lambda a: a[:-1], lambda a: a[..., None], lambda a: a.astype(np.int64), None):
        state = {**whole, "attention": dict(whole["attention"])}
        held: Any = state["attention"] if len(path) == 2 else state
        if spoil is None:
            del held[path[-1]]
        else:
            held[path[-1]] = spoil(held[path[-1]])
        save_state(tmp_path, state)
        with pytest.raises(FoldwiseError, match="not the state of a Network"):
            restore(reader(), tmp_path)


def test_a_network_without_its_attention_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, {**on_tokens().state(), "attention": {}})
    with pytest.raises(FoldwiseError, match="not the state of a Network"):
        restore(reader(), tmp_path)


@pytest.mark.parametrize("fitted", [True, False])
def test_networks_with_tokens_are_never_asked_without_nor_the_other_way_round(fitted: bool) -> None:
    train, tokens, target = told_by_a_token(80)
    member = reader()
    member.fit(train, target, np.zeros(80, dtype=bool), tokens if fitted else None)
    with pytest.raises(FoldwiseError, match="put back the run's config"):
        member.predict(train, None if fitted else tokens)


def test_networks_on_tokens_see_each_row_once_a_pass_beside_texts_about_as_long() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 320)
    states = np.zeros((int(lengths.sum()), 16), dtype=np.float16)
    mean, scale = np.zeros(16, dtype=np.float32), np.ones(1, dtype=np.float32)
    tokens = Tokens(TokenStates.behind_each_other(states, lengths), mean, scale)
    order = _order(320, 32, tokens, torch.Generator().manual_seed(0)).numpy()
    assert (order == order[0]).all()  # states are fetched once for all networks
    assert sorted(order[0]) == list(range(320))
    batches = lengths[order[0]].reshape(10, 32)
    assert np.ptp(batches, axis=1).max() < 30
    assert (np.diff(batches.mean(axis=1)) < 0).any()  # not from short to long


@pytest.mark.parametrize("each", [0, 1, 5])
def test_tokens_that_are_all_alike_are_no_harm(each: int) -> None:
    lengths = np.full(40, each)
    tokens = TokenStates.behind_each_other(np.full((40 * each, 16), 0.1, np.float16), lengths)
    rows, member = read_as(tokens), reader()
    member.fit(rows, np.arange(40) % 2, np.zeros(40, dtype=bool), tokens)
    made = member.predict(rows, tokens)
    np.testing.assert_allclose(made, 0.5, atol=0.1)
    new, other, _ = told_by_a_token(20)
    assert np.isfinite(member.predict(new, other)).all()
