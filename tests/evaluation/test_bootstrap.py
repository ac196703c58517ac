import math

import numpy as np
import pytest

from foldwise.evaluation import bootstrap
from foldwise.evaluation.bootstrap import intervals, resample
from foldwise.metrics.metric import Metric, builtin_metric

# Ten times as fast as the built-in one: these tests draw 100,000 resamples.
SHARE_RIGHT = Metric("share_right", lambda t, p, _: float((t == p).mean()), True, "prediction")


def _interval_of_share_right(
    right: np.ndarray, groups: np.ndarray, seed: int = 0, resamples: int = 300
) -> dict:
    target = np.zeros(len(right), dtype=np.int64)
    prediction = np.where(right, 0, 1)
    probabilities = np.eye(2)[prediction]
    return intervals([SHARE_RIGHT], target, prediction, probabilities, groups, seed, resamples=300)[
        "share_right"
    ]


def test_interval_covers_a_known_accuracy_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    covered = 0
    for repeat in range(200):
        interval = _interval_of_share_right(random.random(150) < 0.7, np.arange(150), repeat)
        covered += interval["low"] <= 0.7 <= interval["high"]
    # 95 % of 200, three standard errors of 1.5 % to either side.
    assert 0.90 <= covered / 200 <= 0.99


def test_interval_is_as_wide_as_the_binomials() -> None:
    right = np.arange(1000) < 800
    interval = _interval_of_share_right(right, np.arange(1000), resamples=2000)
    assert interval["value"] == 0.8
    half_width = 1.96 * math.sqrt(0.8 * 0.2 / 1000)
    assert interval["low"] == pytest.approx(0.8 - half_width, abs=0.005)
    assert interval["high"] == pytest.approx(0.8 + half_width, abs=0.005)


def test_rows_that_come_in_identical_groups_widen_the_interval_by_the_root_of_their_size() -> None:
    right = np.repeat(np.arange(250) < 200, 4)  # 4 copies of each of 250 observations
    alone = _interval_of_share_right(right, np.arange(1000))
    grouped = _interval_of_share_right(right, np.repeat(np.arange(250), 4))
    ratio = (grouped["high"] - grouped["low"]) / (alone["high"] - alone["low"])
    assert ratio == pytest.approx(2.0, rel=0.1)


def test_groups_are_drawn_whole_and_as_many_as_there_are() -> None:
    groups = np.array(["b", "a", "b", "c", "a", "b"])  # sizes: a 2, b 3, c 1; not contiguous
    rows_drawn = []

    def remember(target: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray) -> float:
        rows_drawn.append(target)
        return 0.0

    metric = Metric("remember", remember, True, "prediction")
    rows = np.arange(6)
    intervals([metric], rows, rows, np.ones((6, 6)), groups, seed=0, resamples=200)
    assert rows_drawn.pop(0).tolist() == [0, 1, 2, 3, 4, 5]
    for drawn in rows_drawn:
        count = np.bincount(drawn, minlength=6)
        assert count[0] == count[2] == count[5]
        assert count[1] == count[4]
        assert count[0] + count[1] + count[3] == 3
    assert len({tuple(drawn) for drawn in rows_drawn}) > 10


def test_same_seed_same_interval_another_seed_another() -> None:
    random = np.random.default_rng(0)
    right = random.random(200) < 0.6
    groups = random.integers(0, 150, 200)
    first, again, other = (_interval_of_share_right(right, groups, seed) for seed in (1, 1, 2))
    assert first == again
    assert (first["low"], first["high"]) != (other["low"], other["high"])


def test_probabilities_are_drawn_with_their_rows() -> None:
    target = np.array([0, 1] * 20)
    perfect = np.eye(2)[target]
    metrics = [builtin_metric("auroc_macro"), builtin_metric("accuracy")]
    result = intervals(metrics, target, target, perfect, np.arange(40), seed=0, resamples=50)
    assert result["auroc_macro"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert result["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_resamples_without_both_classes_dont_count_for_auroc() -> None:
    target = np.array([1, 0, 0, 0])
    result = intervals(
        [builtin_metric("auroc_macro")],
        target,
        target,
        np.eye(2)[target],
        np.arange(4),
        seed=0,
        resamples=200,
    )
    assert result["auroc_macro"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_a_metric_defined_on_no_resample_has_no_interval() -> None:
    target = np.zeros(4, dtype=np.int64)
    result = intervals(
        [builtin_metric("auroc_macro")],
        target,
        target,
        np.eye(2)[target],
        np.arange(4),
        seed=0,
        resamples=5,
    )
    assert all(math.isnan(value) for value in result["auroc_macro"].values())


@pytest.mark.parametrize(
    ("rows", "drawn"),
    [(0, 1000), (1, 1000), (1_000_000, 1000), (2_000_000, 500), (2_500_001, 400), (10**8, 400)],
)
def test_of_more_than_a_million_rows_fewer_resamples_are_drawn(rows: int, drawn: int) -> None:
    assert bootstrap.resamples_of(rows) == drawn


def test_the_resamples_of_all_members_are_as_many_and_of_the_same_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootstrap, "DRAWN_ROWS", 450 * 60)
    target, groups = np.arange(60) % 2, np.arange(60) // 2
    right = np.arange(60) % 3 > 0
    first, second = (
        resample([SHARE_RIGHT], target, np.where(mine, target, 2), np.eye(3)[target], groups, 0)
        for mine in (right, ~right)
    )
    assert first.draws.shape == second.draws.shape == (450, 1)
    assert first.draws + second.draws == pytest.approx(1)  # a row is right in one of them


def test_a_wider_level_gives_a_wider_interval() -> None:
    target = np.arange(100) % 2
    prediction = np.where(np.arange(100) % 5 == 0, 1 - target, target)
    arguments = ([SHARE_RIGHT], target, prediction, np.eye(2)[prediction], np.arange(100), 0)
    narrow = intervals(*arguments, level=0.5)["share_right"]
    wide = intervals(*arguments, level=0.99)["share_right"]
    assert wide["low"] < narrow["low"] < 0.8 < narrow["high"] < wide["high"]
