"""A finished run's files, changed one at a time: every command that reads them says so."""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from conftest import make_table
from foldwise import cli
from foldwise.config.load import dump_config, load_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.run import checkpoints, seal
from foldwise.run.audit import seal_anew
from foldwise.run.files import write_json, write_text
from foldwise.run.folder import RunFolder
from foldwise.run.manifests import WEIGHTS
from foldwise.run.seal import SEAL, entry_of
from foldwise.workflow import cross_validate

# No number comes from these: they may hold anything.
SHOWN = re.compile(r"report\.html|fold-\d/learning_curves\.png|tensorboard/.*|(.*/)?\.lock")
# What reads a file of a finished run; nothing but verify reads the others.
PREDICTED = re.compile(
    r"(config\.yaml|classes\.json|manifest\.json|folds\.parquet|seal\.json)|backbone/.*"
    r"|fold-\d/(seal|encoders|best|training)\.json|fold-\d/metrics\.jsonl"
)
REPORTED = re.compile(r"(oof|holdout)\.parquet|metrics\.json|log\.jsonl")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed")
    make_table(rows=9, seed=5).drop("label").write_csv(folder / "new.csv")
    return folder


@pytest.fixture(scope="module")
def run(place: Path, backbone: Path, table_path: Path) -> RunFolder:
    """Two folds with holdout, baselines and columns beside the text."""
    values: dict[str, Any] = {
        "run": {"name": "whole", "dir": str(place / "runs"), "seed": 7},
        "data": {
            "path": str(table_path),
            "target": "label",
            "text": ["text"],
            "categorical": ["kind"],
            "numeric": ["amount"],
        },
        "holdout": {"fraction": 0.15},
        "folds": {"n": 2, "duplicates": "identical"},
        "selection": {"rows": "inner"},
        "text": {"max_length": 24},
        "model": {"backbone": str(backbone), "fusion": "concat"},
        "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
        "training": {
            "epochs": 2,
            "batch_size": 8,
            "device": "cpu",
            "precision": "float32",
            "save_minutes": 0,
        },
        "ensemble": "model",  # whose files the tests spoil; the baselines are members too
    }
    config = Config.model_validate(values)
    (place / "whole.yaml").write_text(dump_config(config), "utf-8")
    return cross_validate(config)


def command(*words: object) -> tuple[int, str]:
    """Give a command in this process; return its exit code and what it printed."""
    printed = io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.setattr(sys, "argv", ["foldwise", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    signal.signal(signal.SIGTERM, before)
    return int(ended.value.code or 0), printed.getvalue()


@contextmanager
def changed(path: Path, content: bytes | None) -> Iterator[None]:
    """Give a file other bytes, or none, for a while."""
    before = path.read_bytes()
    try:
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        yield
    finally:
        path.write_bytes(before)


def named(path: Path, words: str) -> bool:
    """Whether a message names a file; of a checkpoint's manifest, one that it doesn't fit."""
    if path.name == "manifest.json" and path.parent.parent.name == "checkpoints":
        return f"{path.parent}: its {path.name}" in words or f"{path.parent}/" in words
    return f"{path}:" in words


def predict(run: RunFolder, place: Path) -> tuple[int, str]:
    out = place / "out.csv"
    out.unlink(missing_ok=True)
    return command("predict", run.path, place / "new.csv", "-o", out)


def other_bytes(run: RunFolder) -> dict[str, tuple[Path, bytes | None]]:
    """Changes that no parser minds, each of which once gave other predictions or scores."""
    tokenizer = json.loads((run.backbone / "tokenizer.json").read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["card"], vocabulary["loan"] = vocabulary["loan"], vocabulary["card"]
    model = json.loads((run.backbone / "config.json").read_text("utf-8"))
    classes = json.loads(run.classes.read_text("utf-8"))
    folds = pl.read_parquet(run.folds).with_columns(fold=3 - pl.col("fold"))
    buffer = io.BytesIO()
    folds.write_parquet(buffer)
    manifest = run.manifest.read_text("utf-8")
    encoders = json.loads(run.fold(1).encoders.read_text("utf-8"))
    encoders["columns"]["numbers"][0]["center"] += 1
    best = run.fold(1).best.read_text("utf-8")
    return {
        "two-ids-swapped": (run.backbone / "tokenizer.json", json.dumps(tokenizer).encode()),
        "activation": (
            run.backbone / "config.json",
            json.dumps(model | {"hidden_act": "relu"}).encode(),
        ),
        "classes-reordered": (
            run.classes,
            json.dumps({**classes, "classes": classes["classes"][::-1]}).encode(),
        ),
        "folds-edited": (run.folds, buffer.getvalue()),
        "no-training": (run.fold(2).trained, None),
        "no-encoders": (run.fold(2).encoders, None),
        "encoders-edited": (run.fold(1).encoders, json.dumps(encoders).encode()),
        "other-step": (run.fold(1).best, best.replace("1", "2").encode()),
        "manifest-edited": (run.manifest, manifest.replace('"seed": 7', '"seed": 8').encode()),
        "config-edited": (
            run.config,
            run.config.read_bytes().replace(b"max_length: 24", b"max_length: 23"),
        ),
        "no-seal": (run.path / SEAL, None),
        "no-seal-of-a-fold": (run.fold(2).path / SEAL, None),
    }


CASES = [
    *("two-ids-swapped", "activation", "classes-reordered", "folds-edited", "no-training"),
    *("no-encoders", "encoders-edited", "other-step", "manifest-edited", "config-edited"),
    *("no-seal", "no-seal-of-a-fold"),
]


@pytest.mark.parametrize("case", CASES)
def test_a_changed_file_is_named_by_verify_and_by_predict(
    case: str, run: RunFolder, place: Path
) -> None:
    path, content = other_bytes(run)[case]
    assert content != path.read_bytes()
    with changed(path, content):
        for code, words in (command("verify", run.path), predict(run, place)):
            assert code == 2, words
            assert named(path, words) or (case == "no-seal" and f"{run.path}: has no" in words)
    assert not (place / "out.csv").exists()


@pytest.mark.parametrize("case", CASES)
def test_a_changed_file_stops_validation_before_it_writes(case: str, run: RunFolder) -> None:
    path, content = other_bytes(run)[case]
    before = {p: p.stat().st_mtime_ns for p in run.path.rglob("*.parquet") if p != path}
    with changed(path, content):
        code, words = command("validate", run.path)
        assert code == 2, words
        assert named(path, words) or case == "no-seal"
        assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_whole_run_is_verified_in_one_line(run: RunFolder) -> None:
    code, words = command("verify", run.path)
    assert (code, words) == (0, f"{run.path}: every file is as it was sealed (finished)\n")


def test_clean_takes_nothing_that_is_sealed(run: RunFolder) -> None:
    damaged = run.fold(1).checkpoints / "damaged-1-step-000001"
    damaged.mkdir()
    (damaged / "model.safetensors").write_bytes(b"x")
    code, words = command("clean", run.path, "--yes", "--json", "--quiet")
    assert code == 0, words
    assert str(damaged) in json.loads(words)["removed"]
    code, words = command("verify", run.path, "--json")
    assert code == 0
    assert json.loads(words) == {
        "run": str(run.path),
        "finished": True,
        "sound": True,
        "findings": [],
    }


def test_verify_names_every_file_that_differs(run: RunFolder) -> None:
    first, second = run.classes, run.fold(2).predictions
    with changed(first, b"{}\n"), changed(second, None):
        code, words = command("verify", run.path)
    assert code == 2
    assert f"{first}: has changed since it was sealed" in words
    assert f"{second}: is gone since it was sealed" in words
    assert len(words.splitlines()) == 3


def test_verify_names_files_that_nobody_wrote(run: RunFolder) -> None:
    strangers = [
        run.path / "notes.txt",
        run.backbone / "added_tokens.json",
        run.fold(1).path / "members" / "mine.json",
        checkpoints.pointed(run.fold(1)) / "more.safetensors",
    ]
    for path in strangers:
        path.write_bytes(b"{}")
    try:
        code, words = command("verify", run.path)
        assert command("report", run.path)[0] == 2  # a tokenizer would read what lies beside it
    finally:
        for path in strangers:
            path.unlink()
    assert code == 2
    assert [path for path in strangers if not named(path, words)] == []


def test_a_folder_that_is_no_fold_harms_nothing(run: RunFolder, place: Path) -> None:
    (run.path / "fold-abc").mkdir()
    try:
        (run.path / "fold-abc" / "training.json").write_text("{}")
        assert predict(run, place)[0] == 0
        assert command("train", place / "whole.yaml")[0] == 0
        code, words = command("verify", run.path)
    finally:
        shutil.rmtree(run.path / "fold-abc")
    assert (code, named(run.path / "fold-abc", words)) == (2, True)


def test_a_pointer_that_is_gone_is_told_and_written_again(run: RunFolder, place: Path) -> None:
    with changed(run.fold(1).best, None):
        assert predict(run, place)[0] == 0  # the checkpoints' manifests say it too
        code, words = command("verify", run.path)
        assert code == 2
        assert f"{run.fold(1).best}: is gone since it was sealed" in words
        assert f"to make it again, give: foldwise validate {run.path}" in words


def test_one_folds_damage_leaves_the_others_to_be_asked(run: RunFolder, place: Path) -> None:
    path = run.fold(2).encoders
    with changed(path, b"{}"):
        out = place / "one.csv"
        assert command("predict", run.path, place / "new.csv", "-o", out, "--folds", "1")[0] == 0
        out.unlink()
        code, words = command("predict", run.path, place / "new.csv", "-o", out, "--folds", "2")
    assert (code, named(path, words)) == (2, True)


def test_a_fold_that_is_gone_is_missed(run: RunFolder, place: Path) -> None:
    aside = run.path.parent / "aside"
    run.fold(2).path.rename(aside)
    try:
        code, words = predict(run, place)
    finally:
        aside.rename(run.fold(2).path)
    assert code == 2
    assert f"{run.fold(2).path / SEAL}: doesn't vouch for training.json" in words


def test_scores_that_have_changed_are_not_reported(run: RunFolder) -> None:
    for path in (run.out_of_fold, run.holdout, run.metrics, run.log):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        with changed(path, bytes(content)):
            for words in (("report", run.path), ("compare", run.path, run.path / "..")):
                code, told = command(*words)
                assert (code, named(path, told)) == (2, True)
                assert f"to make it again, give: foldwise validate {run.path}" in told


def test_validating_makes_changed_scores_again_to_the_same_bytes(
    run: RunFolder, tmp_path: Path
) -> None:
    copy = RunFolder(tmp_path / "whole")
    shutil.copytree(run.path, copy.path)
    fold = copy.fold(1)
    gone = [copy.out_of_fold, fold.predictions, fold.member("majority").predictions]
    for path in gone:
        path.unlink()
    for path in (copy.metrics, copy.holdout, fold.validation):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert command("validate", copy.path)[0] == 0
    assert command("verify", copy.path)[0] == 0
    for path in run.path.rglob("*.*"):
        if path.suffix in (".parquet", ".json"):
            assert (copy.path / path.relative_to(run.path)).read_bytes() == path.read_bytes(), path


def test_the_train_command_does_not_show_scores_that_have_changed(
    run: RunFolder, place: Path
) -> None:
    content = run.metrics.read_bytes()
    assert b'"value": 0.' in content
    with changed(run.metrics, content.replace(b'"value": 0.', b'"value": 1.')):
        code, words = command("train", place / "whole.yaml")
    assert (code, named(run.metrics, words)) == (2, True)


def test_a_run_without_seal_is_refused_until_it_is_sealed(
    run: RunFolder, place: Path, tmp_path: Path
) -> None:
    old = RunFolder(tmp_path / "old")
    shutil.copytree(run.path, old.path)
    for path in old.path.rglob(SEAL):
        path.unlink()
    for words in (predict(old, place), command("verify", old.path), command("report", old.path)):
        assert words[0] == 2
        assert f"if you trust them, give: foldwise verify {old.path} --seal" in words[1]
    assert command("verify", old.path, "--seal")[0] == 0
    assert predict(old, place)[0] == 0


def test_sealing_anew_accepts_a_change_that_is_meant(run: RunFolder, tmp_path: Path) -> None:
    moved = RunFolder(tmp_path / "moved")
    shutil.copytree(run.path, moved.path)
    text = moved.config.read_text("utf-8")
    moved.config.write_text(text.replace("table.csv", "gone.csv"), "utf-8")
    code, words = command("report", moved.path)
    assert (code, named(moved.config, words)) == (2, True)
    assert command("verify", moved.path, "--seal")[0] == 0
    assert command("report", moved.path)[0] == 0
    assert "Rows are shown without their text" in moved.report.read_text("utf-8")


def test_sealing_anew_a_whole_run_changes_nothing_but_its_log(
    run: RunFolder, tmp_path: Path
) -> None:
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    seal_anew(copy, ["tensorboard"])
    for path in sorted(run.path.rglob("*.*")):
        other = copy.path / path.relative_to(run.path)
        if path.is_file() and path not in (run.log, run.path / SEAL):
            assert other.read_bytes() == path.read_bytes(), path
    stages = [json.loads((r.path / SEAL).read_text("utf-8"))["stages"] for r in (run, copy)]
    for entries in stages:
        del entries["finished"]["log.jsonl"]
    assert stages[0] == stages[1]


# Killed between a seal and the file that says a step is done.


class Killed(BaseException):
    pass


def test_killed_before_each_file_that_ends_a_step_the_run_ends_with_the_same_bytes(
    run: RunFolder, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (place / "whole.yaml").read_text("utf-8").replace("name: whole", "name: cut")
    (place / "cut.yaml").write_text(text, "utf-8")
    config = load_config(place / "cut.yaml", ["baselines=false", "ensemble=model", "trackers=[]"])
    cut, killed = RunFolder(run.path.with_name("cut")), []

    def write(path: Path, text: str) -> None:
        if path.suffix == ".json" and path.name != SEAL and path not in killed:
            killed.append(path)
            raise Killed
        write_text(path, text)

    monkeypatch.setattr(seal, "write_text", write)
    for _ in range(20):
        with suppress(Killed):
            cross_validate(config)
            break
    folds = [cut.fold(1), cut.fold(2)]
    steps = [path for fold in folds for path in (fold.trained, fold.validation)]
    assert killed == [cut.manifest, *steps, cut.metrics]
    assert cut.out_of_fold.read_bytes() == run.out_of_fold.read_bytes()
    assert cut.holdout.read_bytes() == run.holdout.read_bytes()
    assert command("verify", cut.path)[0] == 0


# Sealed as it is, and yet not what Foldwise writes: bad input, not a bug.


def cut(path: Path) -> bytes:
    return path.read_bytes()[:-20]


def without(path: Path, column: str) -> bytes:
    buffer = io.BytesIO()
    pl.read_parquet(path).drop(column).write_parquet(buffer)
    return buffer.getvalue()


def with_key(path: Path, key: str, value: Any) -> bytes:
    return json.dumps(json.loads(path.read_text("utf-8")) | {key: value}).encode()


MALFORMED: dict[str, tuple[str, str, Callable[[Path], bytes]]] = {
    "classes-a-list": ("predict", "classes.json", lambda p: b"[]"),
    "classes-numbers": ("predict", "classes.json", lambda p: b'{"classes": [1, 2, 3]}'),
    "classes-digits": ("predict", "classes.json", lambda p: b'{"classes": %s}' % (b"1" * 5000)),
    "classes-none": ("compare", "classes.json", lambda p: b"{}"),
    "encoders-text": (
        "predict",
        "fold-1/encoders.json",
        lambda p: with_key(p, "class_counts", "many"),
    ),
    "encoders-columns": (
        "predict",
        "fold-1/encoders.json",
        lambda p: with_key(p, "columns", {"categories": [{"name": "kind"}], "numbers": []}),
    ),
    "best": ("predict", "fold-1/best.json", lambda p: b'{"step": "2", "folder": 5}'),
    "manifest": ("report", "manifest.json", lambda p: with_key(p, "data_sha256", 5)),
    "training": ("report", "fold-1/training.json", lambda p: with_key(p, "elapsed_s", "long")),
    "metrics": ("report", "metrics.json", lambda p: with_key(p, "oof", 5)),
    "history": ("report", "fold-1/metrics.jsonl", lambda p: b'{"split": 5}\n'),
    "log": ("compare", "log.jsonl", lambda p: b"[]\n"),
    "oof-cut": ("report", "oof.parquet", cut),
    "oof-column": ("report", "oof.parquet", lambda p: without(p, "prob_loan")),
    "folds-cut": ("report", "folds.parquet", cut),
    "folds-column": ("compare", "folds.parquet", lambda p: without(p, "inner_of")),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_end_in_one_message(
    case: str, run: RunFolder, place: Path, tmp_path: Path
) -> None:
    word, name, make = MALFORMED[case]
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    (copy.path / name).write_bytes(make(copy.path / name))
    with suppress(FoldwiseError):
        seal_anew(copy, ["tensorboard"])
    shown = {"report": ("report", copy.path), "compare": ("compare", copy.path, run.path)}
    code, words = command(*shown[word]) if word in shown else predict(copy, place)
    assert code == 2, words
    assert words.startswith("error: ")
    assert str(copy.path / name) in words


def test_pickled_weights_are_not_loaded(run: RunFolder, place: Path, tmp_path: Path) -> None:
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    folder = checkpoints.pointed(copy.fold(1))
    weights = folder / WEIGHTS
    weights.write_bytes(pickle.dumps({"w": [1.0]}))
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["files"][weights.name] = entry_of(weights)
    write_json(folder / "manifest.json", manifest)
    seal_anew(copy, ["tensorboard"])
    code, words = predict(copy, place)
    assert code == 2
    assert words.startswith(f"error: {weights}: not a safetensors file (")


# Single bits, anywhere.


def flips(run: RunFolder, number: int, seed: int) -> list[tuple[str, int]]:
    """Draw files with a bit in each: any file as often as any other, however large."""
    draw = np.random.default_rng(seed)
    files = sorted(p for p in run.path.rglob("*") if p.is_file() and p.stat().st_size)
    chosen = [files[i] for i in draw.integers(len(files), size=number)]
    return [
        (str(path.relative_to(run.path)), int(draw.integers(8 * path.stat().st_size)))
        for path in chosen
    ]


def reader_of(name: str, run: RunFolder, place: Path) -> Callable[[], tuple[int, str]] | None:
    best = [str(checkpoints.pointed(run.fold(n)).relative_to(run.path)) for n in (1, 2)]
    if PREDICTED.fullmatch(name) or name.startswith(tuple(best)):
        return lambda: predict(run, place)
    if REPORTED.fullmatch(name):
        return lambda: command("report", run.path)
    return None


def check_flip(name: str, bit: int, run: RunFolder, place: Path, report: bytes) -> str:
    """Flip a bit, give the commands, put it back; return what became of it."""
    path = run.path / name
    reader = reader_of(name, run, place)
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    with changed(path, bytes(content)):
        code, words = command("verify", run.path)
        assert "Traceback" not in words
        if SHOWN.fullmatch(name):
            assert code == 0, words
            assert command("report", run.path)[0] == 0
            assert run.report.read_bytes() == report
            return "without effect"
        assert code == 2
        assert named(path, words), words
        if reader is None:
            return "found by verify"
        code, words = reader()
        assert code == 2, words
        assert named(path, words), words
        assert "Traceback" not in words
        return "found by both"


def check_flips(run: RunFolder, place: Path, number: int, seed: int) -> dict[str, int]:
    assert command("report", run.path)[0] == 0
    report = run.report.read_bytes()
    counts: dict[str, int] = {}
    for name, bit in flips(run, number, seed):
        try:
            found = check_flip(name, bit, run, place, report)
        except BaseException as error:
            raise AssertionError(f"seed {seed}: bit {bit} of {name}") from error
        counts[found] = counts.get(found, 0) + 1
    return counts


def test_thirty_flipped_bits_are_found_or_without_effect(run: RunFolder, place: Path) -> None:
    counts = check_flips(run, place, 30, seed=1)
    assert sum(counts.values()) == 30
    assert counts["found by both"] >= 8


@pytest.mark.slow
def test_two_hundred_flipped_bits_are_found_or_without_effect(run: RunFolder, place: Path) -> None:
    counts = check_flips(run, place, 200, seed=2)
    print(counts)
    assert sum(counts.values()) == 200
