"""Keep libraries from talking over the progress bar."""

from __future__ import annotations

import os


def quiet_libraries() -> None:
    """Silence transformers' loading bars and advice; errors still come through."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
