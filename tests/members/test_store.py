"""A member's state on disk: what goes in comes out, and what isn't one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from foldwise.errors import FoldwiseError
from foldwise.members.constant import Constant
from foldwise.members.store import ARRAYS, STATE, load_state, restore, save_state
from members.test_members import MADE, fitted


def test_values_and_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    given = {
        "plain": [1, 0.1, None, True, "a/b", "\x00"],
        "a/b": {"array": np.arange(6).reshape(2, 3).T, "none": np.empty((0, 4), dtype=np.float32)},
        "listed": [{"one": np.array(1.5)}, [np.array([True, False])]],
    }
    save_state(tmp_path, given)
    found = load_state(tmp_path)
    assert found["plain"] == given["plain"]
    np.testing.assert_array_equal(found["a/b"]["array"], given["a/b"]["array"])
    assert found["a/b"]["none"].shape == (0, 4)
    assert found["listed"][0]["one"].shape == ()
    assert found["listed"][1][0].tolist() == [True, False]


@pytest.mark.parametrize(
    "value", [float("nan"), np.int64(3), {1: "key"}, {"a", "b"}, np.array(["text"]), object()]
)
def test_a_state_that_files_would_change_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(FoldwiseError, match="a member's state holds, under 'mine'"):
        save_state(tmp_path, {"mine": value})
    assert not (tmp_path / STATE).exists()


def test_a_missing_array_is_named_with_its_folder(tmp_path: Path) -> None:
    save_state(tmp_path, {"value": np.arange(3.0)})
    save_file({}, tmp_path / ARRAYS)
    with pytest.raises(FoldwiseError) as caught:
        load_state(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "lacks value" in str(caught.value)


@pytest.mark.parametrize("name", list(MADE))
@pytest.mark.parametrize(
    "state", [{}, {"value": [1, 2]}, {"value": None, "model": 3, "features": [], "words": "x"}]
)
def test_another_members_state_is_refused(name: str, state: dict[str, Any], tmp_path: Path) -> None:
    save_state(tmp_path, state)
    with pytest.raises(FoldwiseError, match="put the folder back from a copy of the run"):
        restore(MADE[name]("label", 3), tmp_path)


@pytest.mark.parametrize("name", list(MADE))
def test_every_entry_of_a_state_is_held_against_its_shape(name: str, tmp_path: Path) -> None:
    # Each place of state.json in turn is left out, or becomes something else.
    member, train, _ = fitted(name, "label", rows=60)
    save_state(tmp_path, member.state())
    whole = (tmp_path / STATE).read_text(encoding="utf-8")

    def places(value: Any, path: tuple[Any, ...] = ()) -> Any:
        for key in value if isinstance(value, dict) else range(min(2, len(value))):
            yield (*path, key)
            if isinstance(value[key], dict | list):
                yield from places(value[key], (*path, key))

    for path in places(json.loads(whole)):
        for other in ("gone", -7, None, {}, [[]]):
            state = json.loads(whole)
            at = state
            for key in path[:-1]:
                at = at[key]
            if other == "gone":
                del at[path[-1]]
            else:
                at[path[-1]] = other
            (tmp_path / STATE).write_text(json.dumps(state), encoding="utf-8")
            again = MADE[name]("label", 3)
            try:
                restore(again, tmp_path)
            except FoldwiseError:
                continue
            # What was let through (one category fewer, no trees) predicts all the same.
            assert np.isfinite(again.predict(train)).all(), (path, other)


def test_a_member_of_other_width_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, Constant(3).state())
    with pytest.raises(FoldwiseError, match="not the state of a Constant"):
        restore(Constant(4), tmp_path)
