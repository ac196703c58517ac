"""Run folders that somebody might send: each function spoils a sound one.

LINKS and FILES are tried as they lie. CONFIGS and DAMAGED are sealed anew after they were
spoiled, as a sender can: else the seal would refuse them before the bounds that they try.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from foldwise.run.files import half
from hostile.world import World


class Case(NamedTuple):
    """One spoiled run.

    Attributes:
        spoil: changes the run.
        names: what the message must name.
        harmless: what was changed may also be without effect: the command's right result.
        skips: commands that don't read what was spoiled, or don't mind it.
    """

    spoil: Callable[[World], Any]
    names: str
    harmless: bool = False
    skips: tuple[str, ...] = ()


def link(inside: str, target: str) -> Callable[[World], None]:
    """Replace a file or folder of the run by a link to a file, or a copied folder, outside it."""

    def spoil(world: World) -> None:
        path, away = world.run / inside, world.outside / target
        if path.exists() and not away.exists():
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, away)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(away)

    return spoil


def step(world: World) -> Path:
    """Return the first fold's checkpoint."""
    return next(world.run.glob("fold-1/checkpoints/step-*"))


def link_step(world: World) -> None:
    path = step(world)
    link(str(path.relative_to(world.run)), path.name)(world)


def link_weights(world: World) -> None:
    path = step(world) / "model.safetensors"
    link(str(path.relative_to(world.run)), path.name)(world)


def hard_link(inside: str) -> Callable[[World], None]:
    """Give a file of the user's a second name in the run."""

    def spoil(world: World) -> None:
        path = world.run / inside
        path.unlink(missing_ok=True)
        os.link(world.outside / "precious.txt", path)

    return spoil


def pipe(inside: str) -> Callable[[World], None]:
    """Put a pipe where a file was: reading it would wait for ever."""

    def spoil(world: World) -> None:
        path = world.run / inside
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    return spoil


def put_socket(world: World) -> None:
    here = os.getcwd()
    os.chdir(world.run)  # a socket's path has 100 characters at most
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("talk")
    os.chdir(here)


def deep(world: World) -> None:
    path = world.run / "tracker"
    for _ in range(60):
        path /= "d"
    path.mkdir(parents=True)


def config(key: str, value: Any, code: str | None = None) -> Callable[[World], None]:
    """Change a key of the stored config, and put a Python file at a path from the run."""

    def spoil(world: World) -> None:
        path = world.run / "config.yaml"
        lines = path.read_text("utf-8").split("\n")
        *above, last = key.split(".")
        start = lines.index(f"{above[0]}:") if above else -1
        indent = "  " * len(above)
        at = next(
            (i for i in range(start + 1, len(lines)) if lines[i].startswith(f"{indent}{last}:")),
            None,
        )
        shown = str(value).replace("WORLD", str(world.path))
        line = f"{indent}{last}: {shown}"
        if at is None:
            lines.insert(1, line)
        else:
            end = at + 1
            while end < len(lines) and lines[end].startswith((f"{indent}  ", f"{indent}- ")):
                end += 1
            lines[at:end] = [line]
        path.write_text("\n".join(lines), "utf-8")
        if code is not None:
            file = world.run / code
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"open({str(world.outside / 'made')!r}, 'w').write('ran')\n")

    return spoil


def written(inside: str, content: str | bytes) -> Callable[[World], None]:
    """Replace a file's content."""

    def spoil(world: World) -> None:
        path = next(world.run.glob(inside))
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def cut(inside: str) -> Callable[[World], None]:
    """Keep the first half of a file."""

    def spoil(world: World) -> None:
        path = next(world.run.glob(inside))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return spoil


def header(entries: dict[str, Any] | int) -> bytes:
    """Return a safetensors file with this header, or with a header of this length."""
    if isinstance(entries, int):
        return entries.to_bytes(8, "little") + b"{}"
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + bytes(64)


PICKLE = b"\x80\x02cbuiltins\nexec\nq\x00X\x04\x00\x00\x00passq\x01\x85q\x02Rq\x03."
OVERLAPPING = header(
    {name: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for name in ("a", "b")}
)
BERTSCORE = "[{name: torchmetrics.text.BERTScore, model_name_or_path: org/model}]"
UNSCORED = ("predict", "report")  # build no metric, or say in the report why they can't
MODEL = "fold-1/checkpoints/step-*/model.safetensors"

LINKS: dict[str, Case] = {
    "lock": Case(link(".lock", "precious.txt"), ".lock"),
    "lock-of-a-fold": Case(link("fold-1/.lock", "precious.txt"), "fold-1/.lock"),
    "lock-to-be-made": Case(link(".lock", "nothing-yet"), ".lock"),
    "tensorboard": Case(link("tensorboard", "folder"), "tensorboard"),
    "tensorboard-summary": Case(link("tensorboard/summary", "folder"), "tensorboard/summary"),
    "checkpoint": Case(link_step, "checkpoints/step-"),
    "checkpoints": Case(link("fold-1/checkpoints", "checkpoints"), "fold-1/checkpoints"),
    "weights": Case(link_weights, "model.safetensors"),
    "fold": Case(link("fold-1", "fold-1"), "fold-1"),
    "backbone": Case(link("backbone", "model"), "backbone"),
    "backbone-config": Case(link("backbone/config.json", "config.json"), "backbone/config.json"),
    "tokenizer": Case(link("backbone/tokenizer.json", "t.json"), "backbone/tokenizer.json"),
    "code": Case(link("code", "code"), "code"),
    "config": Case(link("config.yaml", "config.yaml"), "config.yaml"),
    "classes": Case(link("classes.json", "classes.json"), "classes.json"),
    "manifest": Case(link("manifest.json", "manifest.json"), "manifest.json"),
    "metrics": Case(link("metrics.json", "metrics.json"), "metrics.json"),
    "folds": Case(link("folds.parquet", "folds.parquet"), "folds.parquet"),
    "out-of-fold": Case(link("oof.parquet", "oof.parquet"), "oof.parquet"),
    "log": Case(link("log.jsonl", "precious.txt"), "log.jsonl"),
    "report": Case(link("report.html", "precious.txt"), "report.html"),
    "temporary": Case(link(half(Path("metrics.json")).name, "precious.txt"), ".tmp"),
    "of-a-tracker": Case(link("tracker/fold-1/latest", "folder"), "tracker/fold-1/latest"),
    "beside": Case(link("tracker", "folder"), "tracker"),
    "to-itself": Case(lambda w: (w.run / "loop").symlink_to(w.run / "loop"), "loop"),
    "up": Case(lambda w: (w.run / "up").symlink_to(".."), "up"),
}
FILES: dict[str, Case] = {
    "pipe-lock": Case(pipe(".lock"), ".lock"),
    "pipe-classes": Case(pipe("classes.json"), "classes.json"),
    "pipe-config": Case(pipe("config.yaml"), "config.yaml"),
    "pipe-tokenizer": Case(pipe("backbone/tokenizer.json"), "tokenizer.json"),
    "socket": Case(put_socket, "talk"),
    "deep": Case(deep, "deeper"),
    "config-is-a-folder": Case(
        lambda w: ((w.run / "config.yaml").unlink(), (w.run / "config.yaml").mkdir()), "config.yaml"
    ),
    "hard-lock": Case(hard_link(".lock"), ".lock", True, ("train",)),
    "hard-lock-of-a-fold": Case(hard_link("fold-1/.lock"), "fold-1/.lock", True, ("train",)),
}
CONFIGS: dict[str, Case] = {
    "variable-in-the-backbone": Case(
        config("model.backbone", "${SECRET}"), "model.backbone: a run's config names no environment"
    ),
    "variable-in-the-table": Case(config("data.path", "/x/${SECRET}.csv"), "data.path: a run's"),
    "extends": Case(config("extends", "WORLD/train.yaml"), "extends: a run's config extends no"),
    "code-elsewhere": Case(
        config("code", "[WORLD/outside/evil.py]", "../../outside/evil.py"),
        "doesn't lie in the run's folder code/",
    ),
    "code-above": Case(config("code", "[../../outside/evil.py]", "../../outside/evil.py"), "evil"),
    "code": Case(config("code", "[code/evil.py]", "code/evil.py"), "evil.py", skips=("train",)),
    "metric-of-texts": Case(config("metrics", BERTSCORE), "metrics[0]", skips=UNSCORED),
    "metric-of-images": Case(
        config("metrics", "[torchmetrics.image.VisualInformationFidelity]"),
        "metrics[0]",
        skips=UNSCORED,
    ),
    "metric-of-both": Case(
        config("metrics", "[torchmetrics.multimodal.CLIPScore]"), "metrics[0]", skips=UNSCORED
    ),
    "task": Case(config("task", "os.system"), "task"),
    "adapters-of-the-hub": Case(
        lambda w: (config("model.lora", "{r: 2}")(w), config("model.backbone", "org/model")(w)),
        "give --online to ask the hub",
    ),
    "deep-yaml": Case(config("metrics", "[" * 500 + "]" * 500), "levels deep"),
    "many-megabytes": Case(written("config.yaml", "# " + "x" * 2_000_000), "config.yaml"),
    "a-dashboard": Case(
        config("trackers", '[{name: mlflow, uri: "http://127.0.0.1:9"}]'), "config", True
    ),
    "another-place": Case(config("run.dir", "WORLD/outside/folder"), "run.dir", True, ("train",)),
    "table-is-a-pipe": Case(
        lambda w: (os.mkfifo(w.path / "pipe.csv"), config("data.path", "WORLD/pipe.csv")(w)),
        "pipe.csv",
        True,
    ),
    "wide-head": Case(config("model.head.hidden", "[1000000000000]"), "config.yaml", True),
}


def strange_fold(world: World) -> None:
    (world.run / "fold-abc").mkdir()
    for name in ("training.json", "validation.json"):
        shutil.copyfile(world.run / "fold-1" / name, world.run / "fold-abc" / name)


def changed(inside: str, **values: Any) -> Callable[[World], None]:
    """Set keys of a JSON file."""

    def spoil(world: World) -> None:
        path = next(world.run.glob(inside))
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")

    return spoil


VOTES = ("report", "compare", "train")  # read no class or checkpoint of a finished run
WHOLE = ("predict", "evaluate", "train")  # read no table or score of a finished run
SCORED = ("predict", "evaluate", "validate", "train")  # nor do these; validating makes them anew
DAMAGED: dict[str, Case] = {
    "classes-a-list": Case(written("classes.json", "[]"), "classes.json", skips=VOTES),
    "classes-of-numbers": Case(
        written("classes.json", '{"classes": [1, null, {}]}'), "classes.json", skips=VOTES
    ),
    "classes-deep": Case(written("classes.json", "[" * 100_000), "classes.json", skips=VOTES),
    "classes-pickled": Case(written("classes.json", PICKLE), "classes.json", skips=VOTES),
    "encoders-a-list": Case(written("fold-1/encoders.json", "[7]"), "encoders.json", skips=VOTES),
    "encoders-of-text": Case(
        written("fold-1/encoders.json", '{"columns": "x", "weights": "y"}'),
        "encoders.json",
        skips=VOTES,
    ),
    "manifest-a-list": Case(written("manifest.json", "[]"), "manifest.json", skips=WHOLE),
    "manifest-empty": Case(written("manifest.json", "{}"), "manifest.json", skips=WHOLE),
    "metrics-a-list": Case(written("metrics.json", "[]"), "metrics.json", skips=SCORED),
    "metrics-of-text": Case(
        changed("metrics.json", folds="x", oof=[1]), "metrics.json", skips=SCORED[:3]
    ),
    "metrics-of-many-digits": Case(
        written("metrics.json", '{"folds": ' + "9" * 5000 + "}"), "metrics.json", skips=SCORED
    ),
    "log-no-json": Case(written("log.jsonl", "{\n[1]\nx\n"), "log.jsonl", skips=SCORED),
    "log-of-lists": Case(written("log.jsonl", "[1]\n7\n"), "log.jsonl", skips=SCORED),
    "history-no-json": Case(
        written("fold-1/metrics.jsonl", "{\n[1]\n"), "metrics.jsonl", skips=(*WHOLE, "compare")
    ),
    "training-a-list": Case(written("fold-1/training.json", "[]"), "training.json", skips=WHOLE),
    "best-a-list": Case(written("fold-1/best.json", "[]"), "best.json", skips=VOTES),
    "best-above": Case(
        written("fold-1/best.json", '{"step": 1, "folder": "../../../outside"}'),
        "best.json",
        skips=VOTES,
    ),
    "a-fold-of-no-number": Case(strange_fold, "fold-abc", True),
    "folds-cut": Case(cut("folds.parquet"), "folds.parquet", skips=WHOLE),
    "folds-no-parquet": Case(written("folds.parquet", b"PAR1"), "folds.parquet", skips=WHOLE),
    "out-of-fold-cut": Case(
        cut("oof.parquet"), "oof.parquet", skips=("predict", "evaluate", "train", "validate")
    ),
    "out-of-fold-of-another": Case(
        lambda w: shutil.copyfile(w.run / "folds.parquet", w.run / "oof.parquet"),
        "oof.parquet",
        skips=("predict", "evaluate", "train", "validate"),
    ),
    "weights-pickled": Case(written(MODEL, PICKLE), "model.safetensors", skips=VOTES),
    "weights-header": Case(written(MODEL, header(2**40)), "model.safetensors", skips=VOTES),
    "weights-overlap": Case(written(MODEL, OVERLAPPING), "model.safetensors", skips=VOTES),
    "weights-cut": Case(cut(MODEL), "model.safetensors", skips=VOTES),
    "step-manifest": Case(
        written("fold-1/checkpoints/step-*/manifest.json", "[]"), "manifest.json", skips=VOTES
    ),
}
