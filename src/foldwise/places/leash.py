"""A call that doesn't outlive what started it, however that ends.

Who starts it keeps the other end of its stdin. That end closes with its process, a kill included,
on every system; the call is then told to stop, as by `kill`, and soon after it is ended.
"""

from __future__ import annotations

import os
import signal
import threading
import time

_GRACE_S = 10.0


def hold() -> None:
    """End this process once its stdin does."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
