"""Vectors and states of the frozen backbone: what they hang on, and when they are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.hardware.device import build_accelerator
from foldwise.members.frozen import STATES, Frozen, Weights
from foldwise.members.read import Vectors
from foldwise.models.backbone import load_backbone, load_tokenizer

HEAD = "card fee bank call me now please"
TAIL = "loan house payment rate escrow late again"
WORDS = f"{HEAD} {TAIL}".split()
CHUNKS = {"long": "chunks", "stride": 3}


@pytest.fixture
def frozen(make_config: Callable[..., Config], backbone: Path) -> Callable[..., Frozen]:
    """Build the frozen backbone of a run whose inputs are of so many tokens."""

    def build(
        stores: Path | None = None,
        max_length: int = 12,
        embedding: str = "middle_and_last",
        folder: Path = backbone,
        **text: Any,
    ) -> Frozen:
        config = make_config(
            text={"max_length": max_length, **text}, model={"embedding": embedding}, trackers=[]
        )
        accelerator = build_accelerator(config.training)
        return Frozen(config, folder, lambda: folder, {"model": "a"}, accelerator, stores)

    return build


@pytest.fixture
def middle(backbone: Path) -> Callable[[str], np.ndarray]:
    """Read a text by itself: the states of its tokens two thirds of the way up."""
    model = load_backbone(backbone, weights=backbone, attention_dropout=None).eval()
    depth, tokenizer = model.config.num_hidden_layers, load_tokenizer(backbone)

    def states(text: str) -> np.ndarray:
        with torch.no_grad():
            read = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        found: np.ndarray = read.hidden_states[2 * depth // 3][0].numpy()
        return found

    return states


def rows(*texts: str) -> pl.DataFrame:
    return pl.DataFrame({"text": texts})


def states_of(found: Vectors, row: int) -> np.ndarray:
    assert found.tokens is not None
    start, length = found.tokens.starts[row], found.tokens.lengths[row]
    return np.array(found.tokens.states[start : start + length])


def refused() -> Weights:
    raise AssertionError("the vectors lie there; nothing has to be computed")


def test_the_end_of_a_long_text_is_read_where_long_texts_are_chunks(
    frozen: Callable[..., Frozen],
) -> None:
    both = rows(f"{HEAD} {HEAD} {TAIL}", f"{HEAD} {HEAD} {HEAD}")
    cut, chunks = frozen().embed(both).means, frozen(**CHUNKS).embed(both).means
    assert (cut[0] == cut[1]).all()
    assert not np.allclose(chunks[0], chunks[1], atol=1e-3)


def test_a_long_text_has_the_mean_over_the_tokens_of_its_windows(
    frozen: Callable[..., Frozen],
) -> None:
    # 14 words of one token each, cut to 10 a window: the first ten, and the last ten.
    words = f"{HEAD} {TAIL}".split()
    whole = frozen(**CHUNKS)
    assert [len(whole.texts(rows(word)).text[0]) for word in words] == [1] * 14
    assert whole.texts(rows(" ".join(words))).chunks.tolist() == [2]
    windows = frozen().embed(rows(" ".join(words[:10]), " ".join(words[-10:])))
    (vector,) = whole.embed(rows(" ".join(words))).means
    np.testing.assert_allclose(vector, windows.means.mean(axis=0), atol=1e-6)


def test_a_text_that_fits_has_the_vector_that_truncation_gives_it(
    frozen: Callable[..., Frozen],
) -> None:
    short = rows(HEAD, "card", "")
    chunks, cut = frozen(**CHUNKS).embed(short), frozen().embed(short)
    assert chunks.means.tolist() == cut.means.tolist()


def test_texts_that_read_alike_are_passed_once_and_others_are_told_apart(
    frozen: Callable[..., Frozen], tmp_path: Path
) -> None:
    table = rows(f"{HEAD} {HEAD} {TAIL}", HEAD, f"{HEAD} {HEAD} {HEAD}", HEAD)
    kept = frozen(tmp_path / ".tokens", **CHUNKS).embed(table)
    np.testing.assert_allclose(frozen(**CHUNKS).embed(table).means, kept.means, atol=1e-6)


def test_vectors_are_kept_by_how_long_texts_are_read(
    frozen: Callable[..., Frozen], tmp_path: Path
) -> None:
    for text in ({}, CHUNKS, {**CHUNKS, "stride": 2}, {**CHUNKS, "max_chunks": 2}, {}):
        frozen(tmp_path / ".tokens", **text).embed(rows(f"{HEAD} {HEAD} {TAIL}"))
    assert len(list((tmp_path / ".embeddings").iterdir())) == 4


def test_beside_the_last_states_stand_those_two_thirds_of_the_way_up(
    frozen: Callable[..., Frozen], backbone: Path
) -> None:
    texts = [HEAD, "card"]
    found = frozen().embed(rows(*texts)).means
    model = load_backbone(backbone, weights=backbone, attention_dropout=None).eval()
    depth = model.config.num_hidden_layers
    for text, vectors in zip(texts, found, strict=True):
        ids = load_tokenizer(backbone)(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        wanted = [states[-1].mean(dim=1), states[2 * depth // 3].mean(dim=1)]
        np.testing.assert_allclose(vectors, torch.cat(wanted).numpy(), atol=1e-5)


@pytest.mark.parametrize("written", ["last", "auto"])  # auto: a run from before there was a middle
def test_the_last_states_alone_are_what_they_were_beside_the_middle(
    frozen: Callable[..., Frozen], written: str
) -> None:
    both, alone = (
        frozen(embedding=e).embed(rows(HEAD)).means for e in ("middle_and_last", written)
    )
    assert both.shape[1] == 2
    assert alone.tolist() == both[:, :1].tolist()


def test_vectors_with_and_without_the_middle_are_kept_apart(
    frozen: Callable[..., Frozen], tmp_path: Path
) -> None:
    for embedding, each in (("last", 1), ("middle_and_last", 2), ("last", 1)):
        found = frozen(tmp_path / ".tokens", embedding=embedding).embed(rows(HEAD))
        assert found.means.shape[:2] == (1, each)
    assert len(list((tmp_path / ".embeddings").iterdir())) == 2


@pytest.fixture(params=["stored", "in memory"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where tokens and vectors are kept, and nowhere."""
    return tmp_path / ".tokens" if request.param == "stored" else None


@pytest.mark.parametrize("text", [{}, CHUNKS])
def test_beside_the_states_of_tokens_the_means_are_what_they_were_to_the_last_bit(
    frozen: Callable[..., Frozen], stores: Path | None, text: dict[str, Any]
) -> None:
    table = rows(f"{HEAD} {HEAD} {TAIL}", HEAD, "card", "", HEAD, *WORDS)
    plain = frozen(stores, **text).embed(table)
    beside = frozen(stores, embedding="tokens", **text).embed(table)
    assert plain.tokens is None
    assert beside.means.tobytes() == plain.means.tobytes()


def test_each_token_has_its_state_two_thirds_of_the_way_up(
    frozen: Callable[..., Frozen], middle: Callable[[str], np.ndarray], stores: Path | None
) -> None:
    # More than a batch; of other lengths, cut, empty, and two that read alike.
    texts = ["card", f"{HEAD} {HEAD} {TAIL}", "", HEAD, *WORDS, TAIL, f"{HEAD} {HEAD} call", HEAD]
    found = frozen(stores, embedding="tokens").embed(rows(*texts))
    assert found.tokens is not None
    assert found.tokens.lengths[:4].tolist() == [3, 12, 2, 9]
    for row, text in enumerate(texts):
        wanted = middle(" ".join(text.split()[:10]))
        np.testing.assert_allclose(states_of(found, row), wanted, rtol=1e-3, atol=1e-3)
    some = found.take(np.array([3, 0]))
    assert some.means.tolist() == found.means[[3, 0]].tolist()
    assert states_of(some, 1).tolist() == states_of(found, 0).tolist()


def test_the_states_of_a_long_text_are_those_of_all_its_windows(
    frozen: Callable[..., Frozen], middle: Callable[[str], np.ndarray], stores: Path | None
) -> None:
    table = rows("card", " ".join(WORDS), TAIL, " ".join(WORDS))
    found = frozen(stores, embedding="tokens", **CHUNKS).embed(table)
    windows = [middle(" ".join(WORDS[:10])), middle(" ".join(WORDS[-10:]))]
    for row, wanted in enumerate([middle("card"), np.vstack(windows), middle(TAIL)]):
        np.testing.assert_allclose(states_of(found, row), wanted, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(states_of(found, 3), states_of(found, 1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("text", [{}, CHUNKS])
def test_states_that_lie_there_are_read_again(
    frozen: Callable[..., Frozen], tmp_path: Path, text: dict[str, Any]
) -> None:
    table = rows("card", f"{HEAD} {HEAD} {TAIL}", "", TAIL)
    first = frozen(tmp_path / ".tokens", embedding="tokens", **text).embed(table)
    again = frozen(tmp_path / ".tokens", embedding="tokens", **text)
    again.weights = refused
    found = again.embed(table)
    assert found.means.tobytes() == first.means.tobytes()
    for row in range(table.height):
        assert states_of(found, row).tobytes() == states_of(first, row).tobytes()


@pytest.mark.parametrize("texts", [["", "card", "", "card fee", ""], ["", ""]])
def test_a_text_that_has_no_token_has_no_state(
    frozen: Callable[..., Frozen],
    backbones: Callable[[str], Path],
    stores: Path | None,
    texts: list[str],
) -> None:
    folder = backbones("gpt2")  # a decoder puts nothing around a text
    for _ in range(2):
        found = frozen(stores, embedding="tokens", folder=folder).embed(rows(*texts))
        assert np.isfinite(found.means).all()
        assert [len(states_of(found, row)) for row in range(len(texts))] == [
            len(text.split()) for text in texts
        ]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, changed, Path.unlink])
def test_states_that_are_not_as_they_were_written_are_made_anew(
    frozen: Callable[..., Frozen],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
) -> None:
    table = rows("card", HEAD)
    first = frozen(tmp_path / ".tokens", embedding="tokens").embed(table)
    (path,) = (tmp_path / ".embeddings").glob(f"*{STATES}")
    before, means = path.read_bytes(), first.means.tobytes()
    assert "made anew" not in capsys.readouterr().err
    del first
    damage(path)
    found = frozen(tmp_path / ".tokens", embedding="tokens").embed(table)
    told = capsys.readouterr().err
    assert f"{path.with_suffix('.safetensors')}: not as it was written; made anew" in told
    assert path.read_bytes() == before
    assert found.means.tobytes() == means
    assert np.vstack([states_of(found, 0), states_of(found, 1)]).tobytes() == before


def test_states_without_their_means_are_made_anew(
    frozen: Callable[..., Frozen], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What a kill between the two leaves, and it had written other bytes.
    frozen(tmp_path / ".tokens", embedding="tokens").embed(rows("card"))
    (path,) = (tmp_path / ".embeddings").glob(f"*{STATES}")
    before = path.read_bytes()
    path.with_suffix(".safetensors").unlink()
    changed(path)
    frozen(tmp_path / ".tokens", embedding="tokens").embed(rows("card"))
    assert path.read_bytes() == before
    assert "warning" not in capsys.readouterr().err


def test_states_that_are_a_link_are_refused(frozen: Callable[..., Frozen], tmp_path: Path) -> None:
    frozen(tmp_path / ".tokens", embedding="tokens").embed(rows("card"))
    (path,) = (tmp_path / ".embeddings").glob(f"*{STATES}")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FoldwiseError, match="is a link") as caught:
        frozen(tmp_path / ".tokens", embedding="tokens").embed(rows("card"))
    assert str(path) in str(caught.value)


def test_vectors_with_and_without_states_are_kept_apart(
    frozen: Callable[..., Frozen], tmp_path: Path
) -> None:
    for embedding in ("tokens", "middle_and_last", "tokens"):
        found = frozen(tmp_path / ".tokens", embedding=embedding).embed(rows(HEAD))
        assert (found.tokens is not None) == (embedding == "tokens")
    kept = sorted(path.suffix for path in (tmp_path / ".embeddings").iterdir())
    assert kept == [".safetensors", ".safetensors", STATES]
