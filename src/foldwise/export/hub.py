"""An exported folder to the Hugging Face hub: private unless told otherwise, and only when asked.

In: a folder and OWNER/NAME. Out: a repository of its files. `ready` asks nothing of the network, so
that a missing token is told before the work and not after.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foldwise.errors import FoldwiseError


def ready(name: str, *, dry_run: bool) -> str | None:
    """Check a repository's name, and return the token it is pushed by; None in a dry run.

    Raises:
        FoldwiseError: the name isn't one, or there is no token.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise FoldwiseError(f"--push {name}: not a repository's name: {error}") from None
    if name.count("/") != 1:
        raise FoldwiseError(f"--push {name}: must be OWNER/NAME")
    if dry_run:
        return None
    token: str | None = get_token()
    if token is None:
        raise FoldwiseError(
            "--push: there is no token; log in by `hf auth login`, or set HF_TOKEN; --dry-run "
            "needs none"
        )
    return token


def listing(folder: Path) -> list[tuple[str, int]]:
    """Return the files that a push would upload, with their bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path.relative_to(folder)), path.stat().st_size) for path in files]


def push(folder: Path, name: str, token: str, *, public: bool) -> str:
    """Upload a folder, and return where it can be seen.

    Args:
        folder: an export.
        name: OWNER/NAME.
        token: may write there.
        public: who sees it; a repository that is public already is used only if this is true.

    Raises:
        FoldwiseError: the hub refuses, or can't be reached; the folder stands.
    """
    from huggingface_hub import HfApi

    api: Any = HfApi(token=token)
    try:
        api.create_repo(name, repo_type="model", private=not public, exist_ok=True)
        if not public and not api.repo_info(name, repo_type="model").private:
            raise FoldwiseError(
                f"--push {name}: is there and public, but --public wasn't given; nothing was "
                f"uploaded, and {folder} stands"
            )
        api.upload_folder(
            folder_path=folder,
            repo_id=name,
            repo_type="model",
            commit_message="Export a model of a Foldwise run",
        )
    except FoldwiseError:
        raise
    except Exception as error:  # of the network, of the hub: each with classes of its own
        reason = " ".join(str(error).split())[:300]
        raise FoldwiseError(
            f"--push {name}: {type(error).__name__}: {reason}\nThe folder stands: {folder}. Try "
            f"again by: hf upload {name} {folder}"
        ) from error
    return f"https://huggingface.co/{name}"
