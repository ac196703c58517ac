"""How far several processes' losses are from one's, at every step; what they take and hold.

    python benchmarks/processes.py CONFIG --processes 1 2 3 [--shard] [--set KEY=VALUE ...]

Trains the config's first fold by each number of processes, with as many pieces a step
(`training.shares`: the least number that all of them divide), in float32, and prints the largest
difference of a loss and of a gradient norm from those of the first number, the seconds, and the
bytes of weights, gradients and optimizer state in the process that leads. With --shard each holds
a part of the model (`training.shard`).
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from foldwise.run.contents import Training
from foldwise.run.folder import STARTS, FoldFolder, RunFolder
from foldwise.run.history import read_history
from foldwise.run.readers import read_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shard", action="store_true")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    asked = parser.parse_args()
    shares = math.lcm(*asked.processes)
    told = {"training.shares": shares, "training.log_every": 1, "training.precision": "float32"}
    told |= {"training.shard": str(asked.shard).lower()}
    overrides = [*asked.overrides, *(f"{key}={value}" for key, value in told.items())]
    print(f"{shares} pieces a micro-batch")
    print("processes  steps  loss differs by  norm differs by  seconds  holds MiB")
    first: FoldFolder | None = None
    with tempfile.TemporaryDirectory() as folder:
        for count in asked.processes:
            fold = trained(asked.config, count, [*overrides, f"run.dir={folder}"])
            first = first or fold
            lines = list(zip(read_history(first.history), read_history(fold.history), strict=True))
            assert all(one["step"] == other["step"] for one, other in lines)
            far = {
                key: max(abs(one[key] - other[key]) for one, other in lines if key in one)
                for key in ("loss", "grad_norm")
            }
            took = read_json(fold.trained, Training)
            held = next(e["held_bytes"] for e in fold.run.events() if e["event"] == STARTS)
            print(
                f"{count:9d}  {took['steps']:5d}  {far['loss']:15.2g}  {far['grad_norm']:15.2g}  "
                f"{took['elapsed_s']:7.1f}  {held / 2**20:9.1f}",
                flush=True,
            )


def trained(config: Path, count: int, overrides: list[str]) -> FoldFolder:
    name = f"of_{count}"
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    changed = [part for text in [*overrides, f"run.name={name}"] for part in ("--set", text)]
    command = ["-m", "foldwise", "train", str(config), "--folds", "1", "--quiet", *changed]
    start = [sys.executable, *(launcher if count > 1 else []), *command]
    done = subprocess.run(start, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    folder = next(text.partition("=")[2] for text in overrides if text.startswith("run.dir="))
    return RunFolder(Path(folder) / name).fold(1)


if __name__ == "__main__":
    main()
