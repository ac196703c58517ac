"""Whatever moment a machine is lost at, what lies in the store is a state of a killed run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldwise.config.schema import Config
from foldwise.run import checkpoints
from foldwise.run.files import sha256
from foldwise.run.folder import RunFolder
from foldwise.run.manifests import OPTIMIZER, read_manifest, steps, verify
from foldwise.run.seal import check, check_finished
from foldwise.storage import order, stores
from foldwise.storage.systems import Found
from foldwise.workflow import cross_validate, validate


class Folder:
    """A store that is a folder, and calls `look` after each change in it."""

    def __init__(self, path: Path, look: Callable[[], None]) -> None:
        self.path, self.look, self.writes = path, look, 0

    def at(self, url: str) -> Path:
        return self.path / url.removeprefix("s3://")

    def found(self, url: str) -> Found | None:
        path = self.at(url)
        if not path.is_file():
            return None
        return Found(url, path.stat().st_size, sha256(path), None)

    def put_bytes(self, content: bytes, url: str) -> None:
        path = self.at(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.writes += 1
        self.look()

    def put(self, file: Path, url: str) -> None:
        self.put_bytes(file.read_bytes(), url)

    def put_if(self, content: bytes, url: str, version: str | None, **_: Any) -> str | None:
        there = self.found(url)
        if (there.version if there else None) != version:
            return None
        self.put_bytes(content, url)
        return self.found(url).version  # type: ignore[union-attr]

    def read(self, url: str) -> bytes | None:
        return self.at(url).read_bytes() if self.at(url).is_file() else None

    def remove(self, url: str) -> None:
        self.at(url).unlink(missing_ok=True)
        self.writes += 1
        self.look()

    def listing(self, url: str) -> dict[str, Found]:
        root = self.at(url)
        names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
        return {name: self.found(f"{url}/{name}") for name in names}  # type: ignore[misc]

    def fetch(self, found: Found, to: Path) -> Found:
        to.write_bytes(self.at(found.url).read_bytes())
        return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """All that asks a store asks this folder, one file at a time."""
    made = Folder(tmp_path / "store", lambda: None)
    for name in ("put", "put_bytes", "put_if", "read", "remove", "listing", "fetch"):
        monkeypatch.setattr(stores, name, getattr(made, name))
    monkeypatch.setattr(stores, "look", made.found)
    monkeypatch.setattr(stores, "_AT_ONCE", 1)
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("foldwise.charts.learning_curves.learning_curves", lambda *_: None)
    return made


def check_state(run: RunFolder) -> None:
    """Check that a killed process could have left this: nothing is vouched for that isn't so."""
    if not run.config.exists():
        assert not run.manifest.exists()
        return
    if run.manifest.exists():
        check(run.path, "begun")
    for number in run.fold_numbers():
        fold = run.fold(number)
        assert run.manifest.exists()
        whole = []
        for step in steps(fold):
            at = fold.checkpoints / f"step-{step:06d}"
            if (at / "manifest.json").exists():
                verify(at)
                whole.append(OPTIMIZER in read_manifest(at)["files"])
        if fold.trained.exists():
            check(fold.path, "trained")
            checkpoints.load_best(fold)
        else:
            assert not fold.validation.exists()
            assert any(whole) or not fold.last.exists()
        if fold.validation.exists():
            check(fold.path, "validated")
    if run.metrics.exists():
        check_finished(run)


def test_every_state_of_the_store_is_a_killed_runs(
    folder: Folder, make_config: Callable[..., Config]
) -> None:
    run = RunFolder(folder.path / "b" / "runs" / "test")
    furthest: dict[int, int] = {}

    def look() -> None:
        check_state(run)
        for number in run.fold_numbers():
            fold = run.fold(number)
            whole = [s for s in steps(fold) if _whole(fold.checkpoints / f"step-{s:06d}")]
            stands = 10**6 if fold.trained.exists() else max(whole, default=0)
            assert stands >= furthest.get(number, 0)
            furthest[number] = stands

    folder.look = look
    config = make_config(
        run={"dir": "s3://b/runs"},
        folds={"n": 2, "duplicates": "identical"},
        training={"epochs": 2, "save_minutes": 0},
        ensemble=[{"name": "model"}, {"name": "lookup"}],
        data={"sample": 40, "categorical": ["kind"]},
    )
    copy = cross_validate(config)
    assert run.finished
    assert furthest == {1: 10**6, 2: 10**6}
    assert folder.writes > 100
    assert _sent(run) == _sent(copy)
    # Scored again with other files, each sealed file is replaced under both seals.
    validate(copy.path)
    assert _sent(run) == _sent(copy)


def _whole(step: Path) -> bool:
    return (step / "manifest.json").exists() and OPTIMIZER in read_manifest(step)["files"]


def _sent(run: RunFolder) -> dict[str, bytes]:
    found = {p.relative_to(run.path).as_posix(): p for p in run.path.rglob("*") if p.is_file()}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if not any(part.startswith(".") for part in name.split("/"))
    }


def test_what_is_done_comes_last_and_its_removal_first() -> None:
    names = ["metrics.json", "fold-1/training.json", "fold-1/seal.json", "oof.parquet", "seal.json"]
    assert order.sending(names, {"manifest.json"}) == [
        ["oof.parquet"],
        ["fold-1/seal.json"],
        ["fold-1/training.json"],
        ["seal.json"],
        ["metrics.json"],
    ]
    assert order.removing(names)[0] == ["metrics.json"]
    assert order.removing(names)[-1] == ["oof.parquet", "seal.json"]


def test_a_checkpoint_that_is_replaced_loses_its_manifest_first() -> None:
    step = "fold-1/checkpoints/step-000004"
    there = {f"{step}/manifest.json", f"{step}/model.safetensors"}
    assert order.revoked([f"{step}/model.safetensors"], there) == {f"{step}/manifest.json"}
    assert order.revoked([f"{step}/manifest.json", "oof.parquet"], there) == set()


def test_half_a_checkpoint_is_not_there() -> None:
    half, whole = "fold-1/checkpoints/step-000004", "fold-1/checkpoints/step-000002"
    names = {f"{half}/model.safetensors", f"{whole}/manifest.json", f"{whole}/x", "config.yaml"}
    assert order.whole(names) == names - {f"{half}/model.safetensors"}
