"""A push sends the folder where it was told to, in private, and nothing without flag and token."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from foldwise.errors import FoldwiseError
from foldwise.export.hub import listing, push, ready


class FakeHub:
    """Stands in for huggingface_hub.HfApi, and keeps what it is asked."""

    calls: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    private = True
    fails = False

    def __init__(self, token: str) -> None:
        FakeHub.calls = [("token", {"token": token})]

    def create_repo(self, name: str, **given: Any) -> None:
        if self.fails:
            raise OSError("403 Forbidden")
        self.calls.append(("create", {"name": name, **given}))

    def repo_info(self, name: str, **given: Any) -> SimpleNamespace:
        return SimpleNamespace(private=self.private)

    def upload_folder(self, **given: Any) -> None:
        self.calls.append(("upload", given))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "private", True)
    monkeypatch.setattr(FakeHub, "fails", False)
    return FakeHub


def test_a_push_makes_a_private_repository_and_uploads_the_folder(
    hub: type[FakeHub], tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text("card", encoding="utf-8")
    assert push(tmp_path, "me/model", "secret", public=False) == "https://huggingface.co/me/model"
    (_, token), (_, created), (_, uploaded) = hub.calls
    assert token == {"token": "secret"}
    assert created == {"name": "me/model", "repo_type": "model", "private": True, "exist_ok": True}
    assert uploaded["folder_path"] == tmp_path
    assert uploaded["repo_id"] == "me/model"


def test_a_public_repository_gets_nothing_unless_public_was_asked_for(
    hub: type[FakeHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeHub, "private", False)
    with pytest.raises(FoldwiseError, match="is there and public, but --public wasn't given"):
        push(tmp_path, "me/model", "secret", public=False)
    assert [what for what, _ in hub.calls] == ["token", "create"]
    push(tmp_path, "me/model", "secret", public=True)
    assert [what for what, _ in hub.calls] == ["token", "create", "upload"]


def test_a_push_that_fails_says_that_the_folder_stands(
    hub: type[FakeHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeHub, "fails", True)
    with pytest.raises(FoldwiseError) as told:
        push(tmp_path, "me/model", "secret", public=False)
    assert str(told.value) == (
        f"--push me/model: OSError: 403 Forbidden\nThe folder stands: {tmp_path}. Try again by: "
        f"hf upload me/model {tmp_path}"
    )


def test_a_token_is_needed_but_for_a_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert ready("me/model", dry_run=True) is None
    with pytest.raises(FoldwiseError, match="there is no token; log in by `hf auth login`"):
        ready("me/model", dry_run=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    assert ready("me/model", dry_run=False) == "secret"


@pytest.mark.parametrize("name", ["model", "me/model/more", "me/mo del", "", "../x"])
def test_what_is_no_repositorys_name_is_refused(name: str) -> None:
    with pytest.raises(FoldwiseError, match=r"--push .*: (not a repository's name|must be OWNER)"):
        ready(name, dry_run=True)


def test_a_listing_names_every_file_with_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("12345", encoding="utf-8")
    (tmp_path / "c").write_text("", encoding="utf-8")
    assert listing(tmp_path) == [("a/b.txt", 5), ("c", 0)]
