"""How a table given on the command line is written: --delimiter and --encoding."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from foldwise.config.rows import Data
from foldwise.errors import FoldwiseError


@dataclass(frozen=True)
class NewTable:
    """A table of other rows than the run's, and how its file is written.

    Attributes:
        path: as in data.path.
        delimiter: instead of the run's data.delimiter.
        encoding: instead of the run's data.encoding.
    """

    path: str
    delimiter: str | None = None
    encoding: str | None = None


def data_written(data: Data, delimiter: str | None, encoding: str | None) -> Data:
    """Return the section with other keys for how its table is written.

    Args:
        data: of a config.
        delimiter: as in data.delimiter; None leaves it.
        encoding: as in data.encoding; None leaves it.

    Raises:
        FoldwiseError: a delimiter or an encoding that there isn't.
    """
    given = {"delimiter": delimiter, "encoding": encoding}
    values = data.model_dump() | {key: text for key, text in given.items() if text is not None}
    try:
        return Data.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = "".join(f"{part}: " for part in first["loc"])
        raise FoldwiseError(f"--{key}{first['msg']}") from None
