"""Keep libraries from talking over the progress bar, and rich from reading what users wrote."""

from __future__ import annotations

import os

from rich.console import Console


def quiet_libraries() -> None:
    """Silence transformers' loading bars and advice; errors still come through."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it stands.

    By default rich takes `[/te]xt` for markup, and stops at a tag that was never opened: a column,
    a label or a path may be called so.
    """
    return Console(stderr=stderr, markup=False, emoji=False)
