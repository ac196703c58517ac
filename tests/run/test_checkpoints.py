"""A checkpoint is complete or absent, whatever happens to the process or the disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.run import checkpoints
from foldwise.run.checkpoints import Checkpoint, newest, pointed, save
from foldwise.run.folder import FoldFolder
from foldwise.run.manifests import steps, verify

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


def checkpoint(step: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    weight = torch.randn(3, 4, generator=generator)
    return Checkpoint(
        step,
        {"weight": weight, "half": weight.bfloat16(), "ids": torch.arange(3)},
        {"0.exp_avg": weight / 3, "0.step": torch.tensor(float(step))},
        {"progress": {"step": step, "best": 0.1}, "groups": [{"lr": 1e-3 / 3}]},
    )


@pytest.fixture
def fold(tmp_path: Path) -> FoldFolder:
    (tmp_path / "fold-1").mkdir()
    return FoldFolder(tmp_path / "fold-1", 1)


def saved(fold: FoldFolder, *wanted: int) -> FoldFolder:
    for step in wanted:
        save(fold, checkpoint(step), best=step == wanted[0], last=True)
    return fold


def assert_same(found: Checkpoint | None, expected: Checkpoint) -> None:
    assert found is not None
    assert found.step == expected.step
    assert found.state == expected.state
    for left, right in ((found.model, expected.model), (found.optimizer, expected.optimizer)):
        assert left.keys() == right.keys()
        for name, tensor in left.items():
            assert tensor.dtype == right[name].dtype
            assert torch.equal(tensor, right[name])


def test_round_trip_is_bit_exact(fold: FoldFolder) -> None:
    saved(fold, 7)
    folder = fold.checkpoints / "step-000007"
    assert_same(checkpoints.load(folder), checkpoint(7))
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert pointed(fold, "best") == pointed(fold, "last") == folder


def test_tied_and_transposed_tensors_are_saved(fold: FoldFolder) -> None:
    weight = torch.randn(3, 4)
    tied = Checkpoint(1, {"a": weight, "b": weight, "c": weight.T}, {}, {})
    save(fold, tied, best=True, last=True)
    loaded = checkpoints.load(fold.checkpoints / "step-000001").model
    assert torch.equal(loaded["a"], weight)
    assert torch.equal(loaded["b"], weight)
    assert torch.equal(loaded["c"], weight.T)


def test_training_goes_on_from_the_newest_with_an_optimizer(fold: FoldFolder) -> None:
    saved(fold, 1, 2)
    save(fold, checkpoint(3), best=True, last=False)
    assert pointed(fold, "best").name == "step-000003"
    assert_same(newest(fold), checkpoint(2))


def test_optimizer_without_state_can_be_continued_too(fold: FoldFolder) -> None:
    # Plain SGD keeps no tensors: a file that is left out would make the run start from step 0.
    save(fold, Checkpoint(4, {"w": torch.ones(2)}, {}, {}), best=False, last=True)
    assert newest(fold) is not None


def test_nothing_saved_is_nothing_to_continue(fold: FoldFolder) -> None:
    assert newest(fold) is None


def test_weights_alone_are_nothing_to_continue_and_no_last(fold: FoldFolder) -> None:
    save(fold, checkpoint(3), best=True, last=False)  # killed before the first save of `last`
    assert not fold.last.exists()
    assert newest(fold) is None
    assert steps(fold) == []  # they are trained again


def test_going_on_leaves_the_fold_as_it_was_after_that_step(fold: FoldFolder) -> None:
    saved(fold, 1, 2, 3)
    save(fold, checkpoint(4), best=True, last=False)
    before = fold.best.read_bytes()
    assert_same(newest(fold), checkpoint(3))
    assert steps(fold) == [1, 2, 3]
    assert fold.best.read_bytes() != before
    assert pointed(fold, "best").name == "step-000001"
    flip(fold.checkpoints / "step-000003" / "state.json")
    assert_same(newest(fold), checkpoint(2))
    assert pointed(fold, "best").name == "step-000001"


def test_a_checkpoint_set_aside_is_told_and_logged_with_its_reason(
    fold: FoldFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(fold, 1, 2)
    path = fold.checkpoints / "step-000002" / "model.safetensors"
    flip(path)
    newest(fold)
    reason = f"{path}: its bytes have changed since it was written"
    aside = fold.checkpoints / "damaged-1-step-000002"
    assert capsys.readouterr().err == f"warning: {reason}; set aside as {aside}\n"
    (event,) = fold.run.events()
    del event["time"]
    assert event == {
        "event": "checkpoint set aside",
        "fold": 1,
        "renamed": aside.name,
        "reason": reason,
    }


# What a trained fold keeps.


def trained(fold: FoldFolder) -> FoldFolder:
    saved(fold, 1, 2, 3)
    fold.trained.write_text("{}")
    return fold


@pytest.mark.parametrize(
    ("keep", "kept", "whole"),
    [("best", [1], False), ("last", [1, 3], False), ("all", [1, 2, 3], True)],
)
def test_a_trained_fold_keeps_what_is_asked_for(
    fold: FoldFolder, keep: checkpoints.Keep, kept: list[int], whole: bool
) -> None:
    checkpoints.settle(trained(fold), keep)
    assert steps(fold) == kept
    for step in kept:
        folder = fold.checkpoints / f"step-{step:06d}"
        names = set(FILES) if whole else set(FILES) - {"optimizer.safetensors"}
        assert {path.name for path in folder.iterdir()} == names
        assert verify(folder)["files"].keys() == names - {"manifest.json"}
    assert torch.equal(checkpoints.load_best(fold).model["weight"], checkpoint(1).model["weight"])
    assert pointed(fold, "last").name == f"step-{kept[-1]:06d}"
    before = {path: path.stat().st_mtime_ns for path in fold.path.rglob("*")}
    checkpoints.settle(fold, keep)
    assert {path: path.stat().st_mtime_ns for path in fold.path.rglob("*")} == before


@pytest.mark.parametrize("keep", ["best", "last"])
def test_kill_at_any_moment_of_the_deletion_leaves_a_fold_that_the_next_call_settles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: checkpoints.Keep
) -> None:
    expected = trained(folder_in(tmp_path / "whole"))
    checkpoints.settle(expected, keep)
    for k in range(100):
        fold = trained(folder_in(tmp_path / str(k)))
        with monkeypatch.context() as patch:
            done = kill_at(patch, k)
            with suppress(Killed):
                checkpoints.settle(fold, keep)
        assert_same(checkpoints.load_best(fold), replace_optimizer(checkpoint(1), fold))
        checkpoints.settle(fold, keep)
        left, right = (
            {p.relative_to(f.path): p.read_bytes() for p in f.path.rglob("*.*") if p.is_file()}
            for f in (fold, expected)
        )
        # What a kill leaves hidden is cleared when the run goes on (leftovers.py).
        assert {k: v for k, v in left.items() if "/." not in str(k)} == right
        if len(done) < k:
            break
    else:
        pytest.fail("the deletion never came to its end")
    assert k > 10


def folder_in(path: Path) -> FoldFolder:
    (path / "fold-1").mkdir(parents=True)
    return FoldFolder(path / "fold-1", 1)


def replace_optimizer(expected: Checkpoint, fold: FoldFolder) -> Checkpoint:
    whole = "optimizer.safetensors" in verify(pointed(fold))["files"]
    return expected if whole else Checkpoint(expected.step, expected.model, {}, expected.state)


def test_damaged_best_weights_stop_the_deletion_and_say_how_to_get_them_back(
    fold: FoldFolder,
) -> None:
    path = trained(fold).checkpoints / "step-000001" / "model.safetensors"
    flip(path)
    for call in (checkpoints.load_best, lambda f: checkpoints.settle(f, "best")):
        with pytest.raises(FoldwiseError) as caught:
            call(fold)
        assert str(caught.value) == (
            f"{path}: its bytes have changed since it was written; to get the best weights of fold "
            f"1 back, restore {fold.checkpoints} from a copy, or remove {fold.path} and give the "
            "train command again: it trains this fold anew"
        )
    assert steps(fold) == [1, 2, 3]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def truncate_to_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    copy = path.parent.parent.parent / f"copy-of-{path.name}"
    shutil.copyfile(path, copy)
    path.unlink()
    path.symlink_to(copy)


DAMAGES = (flip, truncate_to_nothing, truncate_to_half, delete, link)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_detected_set_aside_and_the_one_before_is_taken(
    fold: FoldFolder, name: str, damage: Callable[[Path], None]
) -> None:
    saved(fold, 1, 2)
    folder = fold.checkpoints / "step-000002"
    damage(folder / name)
    with pytest.raises(FoldwiseError, match=f"^{folder}"):
        verify(folder)
    with pytest.raises(FoldwiseError, match=f"^{folder}"):
        checkpoints.load(folder)
    assert_same(newest(fold), checkpoint(1))
    assert not folder.exists()
    assert (fold.checkpoints / "damaged-1-step-000002").is_dir()
    assert pointed(fold, "last").name == "step-000001"


def test_a_flipped_bit_in_any_byte_of_the_manifest_is_detected(fold: FoldFolder) -> None:
    saved(fold, 1)
    folder = fold.checkpoints / "step-000001"
    path = folder / "manifest.json"
    content = path.read_bytes()
    undetected = []
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 7
        path.write_bytes(flipped)
        try:
            verify(folder)
        except FoldwiseError:
            continue
        undetected.append(position)
    assert undetected == []


def test_manifest_of_another_step_is_detected(fold: FoldFolder) -> None:
    saved(fold, 1, 2)
    shutil.rmtree(fold.checkpoints / "step-000002")
    shutil.copytree(fold.checkpoints / "step-000001", fold.checkpoints / "step-000002")
    with pytest.raises(FoldwiseError, match=r"step-000002: its manifest\.json is of step 1$"):
        verify(fold.checkpoints / "step-000002")
    assert_same(newest(fold), checkpoint(1))


def test_manifest_cannot_name_a_file_outside_the_folder(fold: FoldFolder) -> None:
    saved(fold, 1)
    folder = fold.checkpoints / "step-000001"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../../last.json"] = manifest["files"]["state.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    with pytest.raises(FoldwiseError, match="missing from the checkpoint"):
        verify(folder)


def test_all_damaged_interrupts_and_never_restarts(fold: FoldFolder) -> None:
    saved(fold, 1, 2)
    for folder in fold.checkpoints.iterdir():
        flip(folder / "model.safetensors")
    with pytest.raises(
        RunInterrupted, match=r"^fold 1: no sound checkpoint .*step-000002.*step-0+1"
    ):
        newest(fold)
    # The damaged ones are out of the way now, but the run still isn't a new one.
    with pytest.raises(RunInterrupted, match=r"last\.json names one that isn't there"):
        newest(fold)
    assert len(list(fold.checkpoints.glob("damaged-*"))) == 2


def test_removed_checkpoints_interrupt_and_never_restart(fold: FoldFolder) -> None:
    saved(fold, 1, 2)
    shutil.rmtree(fold.checkpoints)
    with pytest.raises(RunInterrupted, match="no sound checkpoint to continue from"):
        newest(fold)


def test_pruning_keeps_the_newest_two_best_and_last(fold: FoldFolder) -> None:
    saved(fold, 1, 2, 3, 4, 5)
    assert steps(fold) == [1, 4, 5]
    save(fold, checkpoint(6), best=True, last=True)
    assert steps(fold) == [1, 5, 6]  # who goes on from step 5 has the best of that time
    save(fold, checkpoint(7), best=False, last=True)
    assert steps(fold) == [6, 7]


def test_pruning_keeps_two_to_continue_from_whatever_weights_alone_come_after(
    fold: FoldFolder,
) -> None:
    saved(fold, 1, 2, 3)
    for step in (4, 5, 6):
        save(fold, checkpoint(step), best=True, last=False)
    assert steps(fold) == [1, 2, 3, 6]
    flip(fold.checkpoints / "step-000003" / "optimizer.safetensors")
    assert_same(newest(fold), checkpoint(2))


def test_pruning_never_touches_foreign_files(fold: FoldFolder) -> None:
    fold.checkpoints.mkdir()
    for name in ("step-1", "step-000001.bak", "mine", "damaged-1-step-000001", "step-abcdef"):
        (fold.checkpoints / name).mkdir()
        (fold.checkpoints / name / "notes.txt").write_text("keep")
    (fold.checkpoints / "notes.txt").write_text("keep")
    before = sorted(fold.checkpoints.rglob("*"))
    saved(fold, 1, 2, 3, 4)
    after = sorted(p for p in fold.checkpoints.rglob("*") if p.relative_to(fold.checkpoints))
    assert [path for path in before if path not in after] == []


@pytest.mark.parametrize("pointer", ["{", '{"step": 2, "folder": "step-000002"}', None])
def test_pruning_goes_by_the_manifests_whatever_a_pointer_says(
    fold: FoldFolder, pointer: str | None
) -> None:
    saved(fold, 1, 2, 3)
    fold.best.unlink()
    if pointer:
        fold.best.write_text(pointer)
    save(fold, checkpoint(4), best=False, last=True)
    assert steps(fold) == [1, 3, 4]
    assert json.loads(fold.best.read_text())["step"] == 1


def test_pruning_spares_what_has_a_manifest_that_cannot_be_read(fold: FoldFolder) -> None:
    saved(fold, 1, 2, 3)
    (fold.checkpoints / "step-000002" / "manifest.json").write_text("{")
    save(fold, checkpoint(4), best=False, last=True)
    assert steps(fold) == [1, 2, 3, 4]


def test_pointer_to_a_checkpoint_set_aside_does_not_stop_the_next_save(fold: FoldFolder) -> None:
    saved(fold, 1, 2)
    save(fold, checkpoint(3), best=True, last=True)
    flip(fold.checkpoints / "step-000003" / "state.json")
    assert newest(fold) is not None
    save(fold, checkpoint(4), best=False, last=True)
    assert_same(newest(fold), checkpoint(4))


FLIPPED = [
    '{\n  "step": 1,\n  "folder": "step-000003"\n}\n',
    '{"step": 3, "folder": "step-000001"}',
]


@pytest.mark.parametrize("content", ["{", '{"folder": "../step-000001"}', *FLIPPED])
def test_pointer_that_says_otherwise_than_the_manifests_is_named(
    fold: FoldFolder, content: str
) -> None:
    saved(fold, 1, 3)
    fold.best.write_text(content)
    with pytest.raises(FoldwiseError, match=f"^{fold.best}: .* the best is step-000001; remove"):
        pointed(fold, "best")


def test_pointer_that_is_gone_is_not_missed(fold: FoldFolder) -> None:
    saved(fold, 1, 2, 3)
    fold.best.unlink()
    assert_same(checkpoints.load_best(fold), checkpoint(1))
    checkpoints.mend(fold)
    assert json.loads(fold.best.read_text()) == {"step": 1, "folder": "step-000001"}
    fold.best.unlink()
    checkpoints.settle(fold, "all")
    assert json.loads(fold.best.read_text()) == {"step": 1, "folder": "step-000001"}


class Killed(BaseException):
    """Not an Exception, like a kill: no handler may turn it into something else."""


def kill_at(monkeypatch: pytest.MonkeyPatch, k: int) -> list[str]:
    """Die at the k-th file operation (from 0) of this process; return the list of those done."""
    done: list[str] = []

    def dying(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def operate(*arguments: object, **named: object) -> object:
            if len(done) >= k:
                raise Killed(name)
            done.append(name)
            return call(*arguments, **named)

        return operate

    for name in ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, dying(name, getattr(os, name)))
    return done


def test_kill_at_any_file_operation_of_a_save_leaves_a_sound_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    template = tmp_path / "fold-1"
    template.mkdir()
    saved(FoldFolder(template, 1), 1, 2, 3)
    for k in range(200):
        fold = FoldFolder(tmp_path / str(k) / "fold-1", 1)
        shutil.copytree(template, fold.path)
        with monkeypatch.context() as patch:
            done = kill_at(patch, k)
            try:
                save(fold, checkpoint(4), best=True, last=True)
                finished = True
            except Killed:
                finished = False
        if finished and len(done) < k:
            break
        loaded = newest(fold)
        assert loaded is not None
        assert_same(loaded, checkpoint(loaded.step))
        assert loaded.step in (3, 4)
        # What is gone on from and what it says is the best agree, as if nothing had happened.
        assert pointed(fold, "last").name == f"step-{loaded.step:06d}"
        assert pointed(fold, "best").name == ("step-000004" if loaded.step == 4 else "step-000001")
        verify(pointed(fold, "best"))
        found.append(loaded.step)
        save(fold, checkpoint(5), best=False, last=True)
        assert_same(newest(fold), checkpoint(5))
    assert len(found) > 15
    assert found == sorted(found)
    assert set(found) == {3, 4}


def test_kill_while_weights_of_the_same_step_are_replaced_leaves_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run that goes on from step 2 reaches step 3 again, whose weights had been saved as best.
    template = tmp_path / "fold-1"
    template.mkdir()
    save(saved(FoldFolder(template, 1), 1, 2), checkpoint(3), best=True, last=False)
    for k in range(100):
        fold = FoldFolder(tmp_path / str(k) / "fold-1", 1)
        shutil.copytree(template, fold.path)
        with monkeypatch.context() as patch:
            done = kill_at(patch, k)
            with suppress(Killed):
                save(fold, checkpoint(3), best=True, last=False)
        assert_same(newest(fold), checkpoint(2))
        save(fold, checkpoint(3), best=True, last=False)
        assert_same(
            checkpoints.load(pointed(fold, "best")),
            Checkpoint(3, checkpoint(3).model, {}, checkpoint(3).state),
        )
        if len(done) < k:
            break
    else:
        pytest.fail("the save never came to its end")
