"""The seal: what it names, at whatever moment a process dies; and that itself can't be changed."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from foldwise.errors import FoldwiseError
from foldwise.run import seal
from foldwise.run.audit import findings
from foldwise.run.files import to_json, write_text
from foldwise.run.folder import RunFolder
from foldwise.run.seal import SEAL, check, commit, differences, read_seal, replace


class Killed(BaseException):
    pass


def kill_at(patch: pytest.MonkeyPatch, k: int) -> list[int]:
    """Let the process die in place of the k-th rename; those done before are counted."""
    rename, done = os.replace, [0]

    def replace_or_die(source: Path, target: Path) -> None:
        if done[0] == k:
            raise Killed
        done[0] += 1
        rename(source, target)

    patch.setattr(os, "replace", replace_or_die)
    return done


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that has begun."""
    run = RunFolder(tmp_path / "made")
    run.backbone.mkdir(parents=True)
    for path in (run.config, run.classes, run.folds, run.backbone / "tokenizer.json"):
        write_text(path, f"content of {path.name}")
    begin(run)
    return run


def begin(run: RunFolder, manifest: str = "first") -> None:
    files = [run.config, run.classes, run.folds, run.backbone / "tokenizer.json"]
    commit(run.path, "begun", files, run.manifest, manifest)


def test_what_is_as_it_was_passes_and_each_change_is_named(run: RunFolder) -> None:
    check(run.path, "begun")
    for path in (run.config, run.manifest, run.backbone / "tokenizer.json"):
        content = path.read_bytes()
        for other in (content + b"x", content[:-1], content[:-1] + b"X", None):
            path.unlink()
            if other is not None:
                path.write_bytes(other)
            with pytest.raises(FoldwiseError) as refused:
                check(run.path, "begun")
            what = "is gone" if other is None else "has changed"
            assert str(refused.value).startswith(f"{path}: {what} since it was sealed (")
            path.write_bytes(content)
    check(run.path, "begun")


def test_a_link_to_the_same_bytes_is_named(run: RunFolder, tmp_path: Path) -> None:
    shutil.copy(run.classes, tmp_path / "classes.json")
    run.classes.unlink()
    run.classes.symlink_to(tmp_path / "classes.json")
    with pytest.raises(FoldwiseError, match=r"classes\.json: has become a link since"):
        check(run.path, "begun")


def test_only_what_is_asked_for_is_looked_at(run: RunFolder) -> None:
    run.folds.unlink()
    check(run.path, "begun", only=["config.yaml", "manifest.json"])
    assert len(list(differences(run.path, "begun"))) == 1


@pytest.mark.parametrize("k", range(3))
def test_killed_at_any_rename_a_step_is_done_and_sealed_or_not_done(
    k: int, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = run.fold(1)
    fold.path.mkdir()
    write_text(fold.predictions, "predictions")

    def validate() -> None:
        commit(fold.path, "validated", [fold.predictions], fold.validation, "scores")

    with monkeypatch.context() as patch, suppress(Killed):
        kill_at(patch, k)
        validate()
    assert fold.validation.exists() == (k == 2)
    if fold.validation.exists():
        check(fold.path, "validated")
    validate()
    check(fold.path, "validated")


@pytest.mark.parametrize("k", range(4))
def test_killed_at_any_rename_a_replaced_file_is_the_old_or_the_new_and_sealed(
    k: int, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, suppress(Killed):
        done = kill_at(patch, k)
        replace(run.path, run.manifest, "second")
    assert done == [min(k, 3)]
    assert run.manifest.read_text() == ("second" if k >= 2 else "first")
    check(run.path, "begun")
    replace(run.path, run.manifest, "third")
    check(run.path, "begun")
    write_text(run.manifest, "first")  # what it was is no longer good
    with pytest.raises(FoldwiseError, match=r"manifest\.json: has changed"):
        check(run.path, "begun")
    with pytest.raises(FoldwiseError, match=r"manifest\.json: has changed"):
        replace(run.path, run.manifest, "fourth")


def test_a_log_may_grow_but_not_change(run: RunFolder) -> None:
    run.append_log("started")
    write_text(run.out_of_fold, "rows")
    commit(run.path, "finished", [run.out_of_fold, run.log], run.metrics, "{}")
    run.append_log("continued")
    check(run.path, "finished")
    run.log.write_bytes(run.log.read_bytes().replace(b"started", b"stopped"))
    with pytest.raises(FoldwiseError, match=r"log\.jsonl: has changed"):
        check(run.path, "finished")


def test_training_a_fold_anew_ends_the_seal_of_its_old_scores(run: RunFolder) -> None:
    fold = run.fold(1)
    fold.path.mkdir()
    for path in (fold.encoders, fold.best, fold.history, fold.predictions):
        write_text(path, "")
    commit(fold.path, "validated", [fold.predictions], fold.validation, "")
    commit(fold.path, "trained", [fold.encoders, fold.best, fold.history], fold.trained, "")
    assert list(read_seal(fold.path)) == ["trained"]


def test_every_flipped_bit_of_a_seal_is_found(run: RunFolder) -> None:
    path = run.path / SEAL
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(FoldwiseError) as refused:
            check(run.path, "begun")
        assert str(refused.value).startswith(f"{path}: damaged")


def resealed(run: RunFolder, change: Any) -> None:
    """Change a seal's stages and give it the right checksum again, as an attacker can."""
    stages = read_seal(run.path)
    change(stages)
    write_text(run.path / seal.SEAL, seal.seal_text(stages))


def test_a_seal_that_names_nothing_vouches_for_nothing(run: RunFolder) -> None:
    resealed(run, lambda stages: stages["begun"].pop("classes.json"))
    with pytest.raises(FoldwiseError, match=r"seal\.json: damaged"):
        check(run.path, "begun")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", ".lock", ""])
def test_a_seal_that_points_out_of_the_run_is_refused(name: str, run: RunFolder) -> None:
    resealed(run, lambda s: s["begun"].update({name: {"bytes": 1, "sha256": "0" * 64}}))
    with pytest.raises(FoldwiseError, match=r"seal\.json: damaged"):
        check(run.path, "begun")


def test_findings_name_each_file_once_and_a_whole_run_has_none(run: RunFolder) -> None:
    assert findings(run, []) == []
    (run.path / "stranger.bin").write_bytes(b"")
    run.fold(3).path.mkdir()
    write_text(run.fold(3).path / "more.txt", "")
    found = findings(run, [])
    assert [line.split(":")[0] for line in found] == [
        str(run.path / "stranger.bin"),
        str(run.fold(3).path / "more.txt"),
    ]


def test_the_seal_is_readable_json_with_sizes_and_hashes(run: RunFolder) -> None:
    text = (run.path / SEAL).read_text("utf-8")
    value = json.loads(text)
    assert text == to_json(value)
    assert value["stages"]["begun"]["manifest.json"] == {
        "bytes": 5,
        # sha256sum of "first"
        "sha256": "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e",
    }
