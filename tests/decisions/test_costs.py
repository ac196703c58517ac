"""Costs: a file in, and the cheapest decision out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foldwise.decisions.costs import Costs, read_costs
from foldwise.errors import FoldwiseError

FILE = "true,card,loan,abstain\nloan,5,0,1\ncard,0,1,1\n"


def test_the_decision_of_least_expected_cost_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text(FILE)
    costs = read_costs(str(path), ["card", "loan"])
    assert costs.decisions == ("card", "loan", "abstain")
    assert costs.matrix.tolist() == [[0, 1, 1], [5, 0, 1]]  # in the order of the classes
    chosen, expected = costs.cheapest(np.array([[0.9, 0.1], [0.95, 0.05], [0.2, 0.8]]))
    assert [costs.decisions[i] for i in chosen] == ["card", "card", "loan"]
    assert expected.tolist() == pytest.approx([0.5, 0.25, 0.2])
    assert costs.paid(chosen, np.array([1, 0, 1])).tolist() == [5, 0, 0]


def test_abstaining_at_a_cost_is_abstaining_below_a_confidence() -> None:
    costs = Costs(("a", "b", "abstain"), np.array([[0, 1, 0.3], [1, 0, 0.3]]))
    share = np.linspace(0.01, 0.99, 99)
    chosen, _ = costs.cheapest(np.stack([share, 1 - share], axis=1))
    sure = np.maximum(share, 1 - share)
    clear = np.abs(sure - 0.7) > 1e-9
    assert ((chosen == 2) == (sure < 0.7))[clear].all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("true\ncard\n", "needs a column of true classes and one for each decision"),
        ("true,a,a\ncard,0,1\nloan,1,0\n", "two columns have the name 'a'"),
        ("true,a\ncard,0\n", "'loan' has no row; the classes are: card, loan"),
        ("true,a\ncard,0\nloan,1\nlaon,1\n", "'laon' is no class of the run"),
        ("true,a\ncard,0\nloan,1\ncard,1\n", "'card' has two rows"),
        ("true,a\ncard,0\nloan,much\n", "column 'a': the cost for 'loan' isn't a finite number"),
        ("true,a\ncard,\nloan,1\n", "the cost for 'card' isn't a finite number"),
    ],
)
def test_a_wrong_table_of_costs_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "costs.csv"
    path.write_text(text)
    with pytest.raises(FoldwiseError, match=told) as caught:
        read_costs(str(path), ["card", "loan"])
    assert str(path) in str(caught.value)
