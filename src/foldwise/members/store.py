"""A member's state on disk: JSON and safetensors, nothing that runs code when it is read.

In: nested dicts of JSON values and numpy arrays. Out: `state.json`, with `{"array": path}` where
an array stands, and `arrays.safetensors`, the arrays by their path.
"""

from __future__ import annotations

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
_SLASH = "/"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a member's state; `state.json` comes last, so a folder that has it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {}
    told = _without_arrays(state, "", arrays)
    with atomic(folder / ARRAYS) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)
    write_json(folder / STATE, told)


def load_state(folder: Path) -> dict[str, Any]:
    """Read a member's state.

    Raises:
        FoldwiseError: a file is absent or damaged, or the two don't belong together.
    """
    told = read_json(folder / STATE, Contents)
    arrays = {name: tensor.numpy() for name, tensor in read_tensors(folder / ARRAYS).items()}
    found: dict[str, Any] = _with_arrays(told, "", arrays)
    return found


def restore(member: Member, folder: Path) -> None:
    """Give a member back what `save_state` wrote of one that was made the same way."""
    member.load_state(load_state(folder))


def _without_arrays(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {"array": path}
    if isinstance(value, dict):
        return {
            key: _without_arrays(entry, f"{path}{_SLASH}{key}".lstrip(_SLASH), arrays)
            for key, entry in value.items()
        }
    return value


def _with_arrays(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    if not isinstance(value, dict):
        return value
    if value == {"array": path}:
        if path not in arrays:
            raise FoldwiseError(f"{ARRAYS}: lacks {path}, which {STATE} names; restore both")
        return arrays[path]
    return {
        key: _with_arrays(entry, f"{path}{_SLASH}{key}".lstrip(_SLASH), arrays)
        for key, entry in value.items()
    }
