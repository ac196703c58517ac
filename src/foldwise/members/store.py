"""A member's state on disk: JSON and safetensors, nothing that runs code when it is read.

In: nested dicts of JSON values and numpy arrays. Out: `state.json`, with `{"array": path}` where
an array stands, and `arrays.safetensors`, the arrays by their path.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from foldwise.errors import FoldwiseError
from foldwise.members.member import Member
from foldwise.run.contents import Contents
from foldwise.run.files import atomic, write_json
from foldwise.run.readers import read_json, read_tensors

STATE, ARRAYS = "state.json", "arrays.safetensors"
_OTHER_SHAPE = (KeyError, TypeError, ValueError, IndexError, AttributeError)
_PLAIN = (str, bool, int, float, type(None))


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a member's state; `state.json` comes last, so a folder that has it is whole.

    Raises:
        FoldwiseError: it holds something that JSON and safetensors don't: a member of one's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {}
    told = _without_arrays(state, "", arrays)
    with atomic(folder / ARRAYS) as temporary:
        save_file({name: array.copy(order="C") for name, array in arrays.items()}, temporary)
    write_json(folder / STATE, told)


def load_state(folder: Path) -> dict[str, Any]:
    """Read a member's state.

    Raises:
        FoldwiseError: a file is absent or damaged, or the two don't belong together.
    """
    told = read_json(folder / STATE, Contents)
    arrays = {name: tensor.numpy() for name, tensor in read_tensors(folder / ARRAYS).items()}
    try:
        found: dict[str, Any] = _with_arrays(told, "", arrays)
    except FoldwiseError as error:
        raise FoldwiseError(f"{folder}: {error}") from None
    return found


def restore(member: Member, folder: Path) -> None:
    """Give a member back what `save_state` wrote of one that was made the same way.

    Raises:
        FoldwiseError: a file is absent or damaged, or holds another member's state.
    """
    state = load_state(folder)
    try:
        member.load_state(state)
    except _OTHER_SHAPE as error:
        told = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise FoldwiseError(
            f"{folder / STATE}: not the state of a {type(member).__name__} on these columns and "
            f"classes ({told}); put the folder back from a copy of the run"
        ) from None


def _without_arrays(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        arrays[path] = value
        return {"array": path}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {
            key: _without_arrays(entry, _below(path, key), arrays) for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [
            _without_arrays(entry, _below(path, str(place)), arrays)
            for place, entry in enumerate(value)
        ]
    # Infinity and NaN would come back as null: they may stand in arrays.
    if not isinstance(value, _PLAIN) or (isinstance(value, float) and not math.isfinite(value)):
        raise FoldwiseError(
            f"a member's state holds, under {path!r}, {value!r} ({type(value).__name__}); "
            "give finite JSON values, lists and dicts of them, and numpy arrays of numbers"
        )
    return value


def _with_arrays(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    if isinstance(value, list):
        return [
            _with_arrays(entry, _below(path, str(place)), arrays)
            for place, entry in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    if value == {"array": path}:
        if path not in arrays:
            raise FoldwiseError(f"{ARRAYS}: lacks {path}, which {STATE} names; restore both")
        return arrays[path]
    return {key: _with_arrays(entry, _below(path, key), arrays) for key, entry in value.items()}


def _below(path: str, key: str) -> str:
    return f"{path}/{key}" if path else key
