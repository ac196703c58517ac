"""Who may write a run in a store: one machine at a time, by an object that says so.

In: a run's URL and the name of a working copy. Out: a lease, `.lease.json` in the run's folder:
whose it is, and until when. It is put on the store's own condition that nobody else has put one
meanwhile, and put anew whenever something is sent: so a machine that stood still too long, whose
lease another has taken over, finds that out before it sends. Processes of one machine share it; the
kernel's locks on the working copy keep those apart. Clocks of machines should agree to a minute.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from foldwise.errors import FoldwiseError
from foldwise.run.files import now, to_json
from foldwise.storage import stores

LEASE = ".lease.json"
HOLDS_S = 1800  # well over the minutes between checkpoints; who goes on takes it over after these


@dataclass(frozen=True)
class Lease:
    """A lease as it stands.

    Attributes:
        owner: the working copy that it is of.
        told: what a person should hear of the holder.
        until: seconds since 1970; 0 once it was given up.
        version: the store's, of the object.
    """

    owner: str
    told: str
    until: float
    version: str

    @property
    def held(self) -> bool:
        """Whether its time isn't over."""
        return self.until > time.time()


def read_lease(url: str) -> Lease | None:
    """Read the lease of a run; None where there is none.

    Raises:
        FoldwiseError: what lies there is none, or the store can't be asked.
    """
    at = f"{url}/{LEASE}"
    while (found := stores.look(at)) is not None:
        content = stores.read(at)
        if stores.look(at) != found:
            continue  # put anew between the two answers
        try:
            value = json.loads(content or b"")
            owner, told = str(value["owner"]), str(value["told"])
            return Lease(owner, told[:200], float(value["until"]), found.version)
        except (ValueError, KeyError, TypeError):
            raise FoldwiseError(f"{at}: says nothing that Foldwise wrote; remove it") from None
    return None


def check_free(url: str, owner: str, lease: Lease | None) -> None:
    """Check that nobody else holds a run.

    Raises:
        FoldwiseError: another machine does.
    """
    if lease is not None and lease.owner != owner and lease.held:
        until = datetime.fromtimestamp(min(lease.until, 1e11), UTC).isoformat(timespec="seconds")
        raise FoldwiseError(
            f"{url} is in use by {lease.told!r} until {until} at least; wait for it, choose "
            f"another run.name or, if that machine is gone for good, remove {url}/{LEASE}"
        )


def hold(url: str, owner: str, version: str | None) -> str:
    """Take a lease, or hold it for longer.

    Args:
        url: the run's.
        owner: the working copy.
        version: of the lease that it replaces; None where there is none.

    Returns:
        The version of the lease that holds now.

    Raises:
        FoldwiseError: somebody else has taken it.
    """
    content, at = _content(owner, time.time() + HOLDS_S), f"{url}/{LEASE}"
    held = stores.put_if(content, at, version)
    if held is None and (lease := read_lease(url)) is not None and lease.owner == owner:
        # A process of this machine was killed before it wrote down which one it had put.
        held = stores.put_if(content, at, lease.version)
    if held is None:
        raise FoldwiseError(
            f"{url}: another machine has taken the run over, so nothing more is sent there; what "
            "this one has done since lies in its working copy: let the other end"
        )
    return held


def give_up(url: str, owner: str, version: str, *, made: bool) -> None:
    """Let others have a run at once; a lease that can't be given up runs out by itself.

    Args:
        url: the run's.
        owner: the working copy.
        version: of the lease.
        made: the run lies in the store; else nothing of it stays there.
    """
    put = stores.put_if(_content(owner, 0.0), f"{url}/{LEASE}", version, patience_s=5.0)
    if put is not None and not made:
        stores.remove(f"{url}/{LEASE}")


def _content(owner: str, until: float) -> bytes:
    told = f"process {os.getpid()} on {socket.gethostname()} since {now()}"
    value = {"owner": owner, "told": told, "until": until, "put": uuid.uuid4().hex}
    return to_json(value).encode()
