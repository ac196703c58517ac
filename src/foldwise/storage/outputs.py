"""Outputs that go to a store: written here whole, then sent under their name at once.

In: a file that was written at the place which places.py gives an output. Out: the object, and the
file here is gone. An output at a plain path stays where it is. A store makes an object visible
only once all of it came, so nobody finds half of one.
"""

from __future__ import annotations

from pathlib import Path

from foldwise.errors import FoldwiseError
from foldwise.run.files import atomic, publish
from foldwise.storage import stores
from foldwise.storage.places import OUTPUTS, output_of, url_of


def output_path(named: str) -> Path:
    """Return where an output is to be written: a path as it is; for a URL a place here."""
    path = output_of(named)
    if url_of(path, OUTPUTS) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def fetch_output(path: Path) -> None:
    """Fetch what a store has under an output's name, to be looked at; a plain path is left alone.

    Raises:
        RunInterrupted: the store fails.
    """
    url = url_of(path, OUTPUTS)
    if url is not None:
        path.unlink(missing_ok=True)
        if (found := stores.look(url)) is not None:
            with atomic(path, found.size) as temporary:
                stores.fetch(found, temporary)


def check_new(path: Path) -> None:
    """Check that a store has nothing under an output's name yet; a plain path isn't looked at.

    Raises:
        FoldwiseError: it has.
    """
    url = url_of(path, OUTPUTS)
    if url is not None and stores.look(url) is not None:
        raise FoldwiseError(f"{url}: is there already; choose another name or remove it")


def deliver(whole: Path, final: Path) -> None:
    """Give a file that is whole its name: on this disk, or in the store that the name is of.

    Raises:
        RunInterrupted: the store fails.
    """
    if (url := url_of(final, OUTPUTS)) is not None:
        stores.put(whole, url)
    else:
        publish(whole, final)


def send(path: Path) -> None:
    """Send an output that is whole, and remove it here; one at a plain path stays.

    Raises:
        RunInterrupted: the store fails; the file is kept.
    """
    if (url := url_of(path, OUTPUTS)) is not None:
        stores.put(path, url)
        path.unlink()


def sent_table(path: Path) -> str:
    """Return what a run's config calls a table that was given as a frame.

    Args:
        path: where it lies beside the runs, named by its content.

    Returns:
        The path, or the URL where another machine finds it too.
    """
    url = url_of(path)
    if url is None:
        return str(path)
    if stores.look(url) is None:
        stores.put(path, url)
    return url
