"""The only way files of a run are read back: as they must be, or one message that names the file.

In: a path, and what the file is to hold. Out: plain values, a table, tensors. A file that is
absent, cut off, of another format or of other types is bad input; nobody further up has to ask.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from foldwise.errors import FoldwiseError

if TYPE_CHECKING:
    import polars as pl
    import torch

_ADVICE = "put it back from a copy of the run"


def read_json(path: Path, holds: type[BaseModel] | None = None) -> Any:
    """Read a JSON file of a run.

    Args:
        path: the file.
        holds: what it must hold; None takes any value.

    Returns:
        The value as it stands in the file: `holds` checks it and changes nothing.

    Raises:
        FoldwiseError: it is absent, isn't JSON, or holds something else.
    """
    return _value(path, _content(path), holds)


def read_lines(path: Path, holds: type[BaseModel]) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line; a last line without its end isn't there yet.

    Raises:
        FoldwiseError: it is absent, or naming the first line that isn't such an object.
    """
    lines = _content(path).split(b"\n")[:-1]
    return [
        _value(path, line, holds, f"line {number}: ")
        for number, line in enumerate(lines, start=1)
        if line
    ]


def read_parquet(path: Path, columns: Collection[str] = ()) -> pl.DataFrame:
    """Read a table of a run.

    Args:
        path: the file.
        columns: that it must have, among others.

    Raises:
        FoldwiseError: it is absent, damaged, or lacks a column.
    """
    import polars as pl

    if not path.is_file():
        raise FoldwiseError(f"{path}: no such file; is this a complete run folder?")
    try:
        frame = pl.read_parquet(path, glob=False)
    # Its Rust code panics on some damaged files, past `Exception`.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        told = str(error).splitlines()[0]
        raise FoldwiseError(f"{path}: damaged ({told}); {_ADVICE}") from None
    if lacking := [name for name in columns if name not in frame.columns]:
        raise FoldwiseError(f"{path}: damaged (it has no column {lacking[0]!r}); {_ADVICE}")
    return frame


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file.

    Raises:
        FoldwiseError: it is absent, or isn't one: pickled, cut off, with a wrong header.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        told = str(error).splitlines()[0]
        raise FoldwiseError(f"{path}: not a safetensors file ({told}); {_ADVICE}") from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FoldwiseError(f"{path}: no such file; is this a complete run folder?") from None
    except OSError as error:
        raise FoldwiseError(f"{path}: can't be read ({error.strerror}); {_ADVICE}") from None


def _value(path: Path, content: bytes, holds: type[BaseModel] | None, where: str = "") -> Any:
    try:
        value = json.loads(content)
        if holds is not None:
            holds.model_validate_json(content, strict=True)
        return value
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"])) or "it"
        told = f"{where}{key}: {first['msg']}"
    except (ValueError, RecursionError) as error:  # Python refuses numbers of 5,000 digits, too
        told = f"{where}{error}"
    raise FoldwiseError(f"{path}: damaged ({told}); {_ADVICE}")
