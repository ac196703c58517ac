"""States of tokens, one behind the other: texts taken, padded, and cut from a batch."""

from __future__ import annotations

import numpy as np
import torch

from foldwise.members.states import TokenStates, halves_by_text


def three() -> TokenStates:
    """Texts of two, one and three tokens; the states count up."""
    states = np.arange(12, dtype=np.float16).reshape(6, 2)
    return TokenStates.behind_each_other(states, np.array([2, 1, 3]))


def test_texts_follow_one_another() -> None:
    texts = three()
    assert (len(texts), texts.width) == (3, 2)
    assert texts.starts.tolist() == [0, 2, 3]


def test_texts_are_taken_in_any_order_and_more_than_once_without_copying_states() -> None:
    texts = three()
    some = texts.take(np.array([2, 0, 2]))
    assert some.states is texts.states
    assert (some.starts.tolist(), some.lengths.tolist()) == ([3, 0, 3], [3, 2, 3])
    assert some.take(np.array([1])).starts.tolist() == [0]
    assert len(texts.take(np.array([], dtype=np.int64))) == 0


def test_behind_a_texts_last_token_stands_that_token_again() -> None:
    states, real = three().padded(np.array([2, 1]))
    assert states.dtype == torch.float32
    assert states.tolist() == [[[6, 7], [8, 9], [10, 11]], [[4, 5], [4, 5], [4, 5]]]
    assert real.tolist() == [[True, True, True], [True, False, False]]
    states, real = three().take(np.array([2, 1])).padded(np.array([1]))
    assert (states.tolist(), real.tolist()) == ([[[4, 5]]], [[True]])


def test_a_text_without_tokens_is_zeros() -> None:
    texts = TokenStates.behind_each_other(three().states, np.array([2, 0, 4, 0]))
    states, real = texts.padded(np.array([3, 0, 1]))
    assert states.tolist() == [[[0, 0], [0, 0]], [[0, 1], [2, 3]], [[0, 0], [0, 0]]]
    assert real.tolist() == [[False, False], [True, True], [False, False]]
    states, real = texts.padded(np.array([1]))
    assert (states.tolist(), real.tolist()) == ([[[0, 0]]], [[False]])
    none = TokenStates.behind_each_other(np.empty((0, 2), np.float16), np.array([0, 0]))
    assert none.padded(np.array([1, 0]))[0].tolist() == [[[0, 0]], [[0, 0]]]


def test_what_is_said_of_a_batchs_tokens_is_cut_into_its_texts() -> None:
    said = torch.arange(1.0, 9.0).reshape(4, 2)
    found = halves_by_text(said, torch.tensor([1, 1, 1, 3]), 5)
    assert [each.tolist() for each in found] == [[], [[1, 2], [3, 4], [5, 6]], [], [[7, 8]], []]
    assert {(each.dtype, each.shape[1]) for each in found} == {(np.dtype(np.float16), 2)}
    (all_of_one,) = halves_by_text(said.bfloat16(), torch.zeros(4, dtype=torch.int64), 1)
    assert all_of_one.tolist() == said.tolist()


def test_states_beyond_the_range_of_halves_become_the_farthest_of_these() -> None:
    said = torch.tensor([[1e6, -1e38, torch.inf, 0.5]])
    (found,) = halves_by_text(said, torch.tensor([0]), 1)
    assert found.tolist() == [[65504.0, -65504.0, 65504.0, 0.5]]
