"""Runs whose seals somebody has removed, damaged or written anew with something else in them.

`train` of a run that is finished has nothing to do: it reads no fold's seal.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from typing import Any

from foldwise.run.files import to_json, write_json
from foldwise.run.seal import SCHEMA, SEAL
from hostile.runs import PICKLE, SCORED, Case, changed, cut, link, pipe, written
from hostile.world import World


def unsealed(*names: str) -> Callable[[World], None]:
    """Remove seals: of the run, or of a fold."""

    def spoil(world: World) -> None:
        for name in names:
            (world.run / name / SEAL).unlink()

    return spoil


def sealed(change: Callable[[dict[str, Any]], Any], inside: str = ".") -> Callable[[World], None]:
    """Change the stages of a seal and give it the checksum that they have then."""

    def spoil(world: World) -> None:
        path = world.run / inside / SEAL
        stages = json.loads(path.read_text("utf-8"))["stages"]
        change(stages)
        digest = hashlib.sha256(to_json(stages).encode("utf-8")).hexdigest()
        write_json(path, {"schema": SCHEMA, "stages": stages, "sha256": digest})

    return spoil


def naming(name: str) -> Callable[[World], None]:
    """Let the seal vouch for another file."""
    return sealed(lambda s: s["begun"].update({name: s["begun"]["config.yaml"]}))


SEALS: dict[str, Case] = {
    "seal-none": Case(unsealed("."), SEAL),
    "seal-none-at-all": Case(unsealed(".", "fold-1", "fold-2"), SEAL),
    "seal-none-of-a-fold": Case(unsealed("fold-2"), f"fold-2/{SEAL}", skips=("train",)),
    "seal-a-list": Case(written(SEAL, "[]"), SEAL),
    "seal-deep": Case(written(SEAL, '{"stages":' * 100_000), SEAL),
    "seal-pickled": Case(written(SEAL, PICKLE), SEAL),
    "seal-of-many-digits": Case(written(SEAL, '{"schema": ' + "1" * 5000 + "}"), SEAL),
    "seal-large": Case(written(SEAL, b"[" + b" " * 100_000_000 + b"]"), SEAL),
    "seal-cut": Case(cut(SEAL), SEAL),
    "seal-cut-of-a-fold": Case(cut(f"fold-1/{SEAL}"), f"fold-1/{SEAL}", skips=("train",)),
    "seal-linked": Case(link(SEAL, SEAL), SEAL),
    "seal-piped": Case(pipe(SEAL), SEAL),
    "seal-of-a-fold": Case(lambda w: shutil.copyfile(w.run / "fold-1" / SEAL, w.run / SEAL), SEAL),
    "seal-checksum-left": Case(changed(SEAL, sha256="0" * 64), SEAL),
    "seal-stage-unknown": Case(sealed(lambda s: s.update(more={})), SEAL),
    "seal-stage-gone": Case(sealed(lambda s: s.pop("finished")), SEAL, skips=SCORED[:3]),
    "seal-stage-of-nothing": Case(sealed(lambda s: s["begun"].clear()), SEAL),
    "seal-without-the-tokenizer": Case(
        sealed(lambda s: s["begun"].pop("backbone/tokenizer.json")), "tokenizer.json"
    ),
    "seal-of-negative-bytes": Case(
        sealed(lambda s: s["begun"]["config.yaml"].update(bytes=-1)), "config.yaml"
    ),
    "seal-naming-above": Case(naming("../../outside/precious.txt"), SEAL),
    "seal-naming-elsewhere": Case(naming("/etc/passwd"), SEAL),
    "seal-naming-a-device": Case(naming("/dev/zero"), SEAL),
    "seal-naming-what-is-not-there": Case(naming("more.json"), "more.json"),
    "seal-fold-without-weights": Case(
        sealed(
            lambda s: [
                s["trained"].pop(n) for n in list(s["trained"]) if n.endswith(".safetensors")
            ],
            "fold-1",
        ),
        f"fold-1/{SEAL}",
        True,  # their checkpoint's manifest still does
    ),
    "seal-fold-of-other-weights": Case(
        sealed(
            lambda s: [
                e.update(sha256="0" * 64)
                for n, e in s["trained"].items()
                if n.endswith(".safetensors")
            ],
            "fold-1",
        ),
        "fold-1/",
        skips=("train",),
    ),
}
