"""Token store: columns become ids once, whole, with the tokenizer's own separator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from foldwise.config.schema import Config
from foldwise.encoding import text
from foldwise.encoding.text import TokenStore, encode, frame_of, plain_tokenizer
from foldwise.errors import FoldwiseError
from foldwise.hardware import cores
from foldwise.models.backbone import load_tokenizer
from foldwise.parts.usercode import UserCode
from foldwise.tasks.text_classification import TextClassification

Backbones = Callable[[str], Path]


@pytest.fixture
def tokenizer(backbone: Path) -> Any:
    return load_tokenizer(backbone)


@pytest.fixture
def pieces() -> Any:
    """A BERT-like tokenizer in whose vocabulary brackets are words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[", "]", "sep", "cls", "my", "card"]
    fast = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    fast.normalizer = normalizers.BertNormalizer(lowercase=True)
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


@pytest.fixture
def bytes_only() -> Any:
    """A GPT-2-like tokenizer: bytes, and no special token at all."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fast = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=fast)


def ids_of(tokenizer: Any, *words: str) -> list[int]:
    ids: list[int] = tokenizer.convert_tokens_to_ids(list(words))
    return ids


def rows_of(store: TokenStore) -> list[list[int]]:
    return [store[i].tolist() for i in range(len(store))]


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    # Note each tokenization of rows, in order.
    calls: list[int] = []
    tokenize = text._tokenize

    def spy(rows: pl.DataFrame, *rest: Any) -> Any:
        calls.append(rows.height)
        return tokenize(rows, *rest)

    monkeypatch.setattr(text, "_tokenize", spy)
    return calls


def test_a_tokenizer_is_copied_once_as_long_as_it_is_the_same(pieces: Any) -> None:
    copy = plain_tokenizer(pieces.backend_tokenizer)
    assert plain_tokenizer(pieces.backend_tokenizer) is copy
    pieces.add_tokens(["refund"])
    other = plain_tokenizer(pieces.backend_tokenizer)
    assert (copy.token_to_id("refund"), other.token_to_id("refund")) == (None, 10)


def test_special_tokens_written_in_a_text_stay_text(pieces: Any) -> None:
    rows = pl.DataFrame({"text": ["my [SEP] card [CLS]"]})
    assert pieces("my [SEP] card", add_special_tokens=False)["input_ids"] == [8, 3, 9]
    assert rows_of(encode(rows, ["text"], pieces)) == [[8, 4, 6, 5, 9, 4, 7, 5]]


def test_columns_are_joined_by_the_separators_id_in_their_order(tokenizer: Any) -> None:
    rows = pl.DataFrame({"a": ["zebra fee"], "b": ["loan"], "c": ["Debt call"]})
    sep = tokenizer.sep_token_id
    assert rows_of(encode(rows, ["b", "c", "a"], tokenizer)) == [
        [
            *ids_of(tokenizer, "loan"),
            sep,
            *ids_of(tokenizer, "debt", "call"),
            sep,
            *ids_of(tokenizer, "[UNK]", "fee"),
        ]
    ]


def test_the_template_is_numbers_then_categories_then_texts(
    make_config: Callable[..., Config],
) -> None:
    data = {"text": ["text"], "categorical": ["kind"], "numeric": ["amount"]}
    assert TextClassification(make_config(data=data), UserCode()).columns == [
        "amount",
        "kind",
        "text",
    ]


def test_an_empty_cell_is_the_word_missing(tokenizer: Any) -> None:
    rows = pl.DataFrame({"amount": [None, 3.0], "text": ["fee", None]})
    missing, fee = ids_of(tokenizer, "missing", "fee")
    store = encode(rows, ["amount", "text"], tokenizer)
    sep = tokenizer.sep_token_id
    assert store[0].tolist() == [missing, sep, fee]
    assert store[1].tolist() == [tokenizer.unk_token_id, sep, missing]


@pytest.mark.parametrize(
    ("number", "written"),
    [(3.0, "3"), (-0.5, "-0.5"), (1234567.0, "1.23457e+06"), (1 / 3, "0.333333")],
)
def test_numbers_are_written_short(bytes_only: Any, number: float, written: str) -> None:
    store = encode(pl.DataFrame({"amount": [number]}), ["amount"], bytes_only)
    assert bytes_only.decode(store[0].tolist()) == written


def test_the_store_on_disk_equals_the_ids_in_memory(
    tokenizer: Any, table_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "STRETCH_ROWS", 7)  # many chunks, the last one short
    rows = pl.read_csv(table_path)
    memory = encode(rows, ["kind", "text"], tokenizer)
    disk = encode(rows, ["kind", "text"], tokenizer, tmp_path / "stores")
    assert isinstance(disk.ids, np.memmap)
    assert disk.ids.dtype == memory.ids.dtype == np.int32
    assert rows_of(disk) == rows_of(memory)
    assert disk.offsets.tolist() == memory.offsets.tolist()
    expected = [
        len(tokenizer(f"{kind} {words}", add_special_tokens=False)["input_ids"]) + 1
        for kind, words in rows.select("kind", "text").iter_rows()
    ]
    assert disk.lengths.tolist() == expected
    assert [path.name for path in (tmp_path / "stores").glob(".*")] == []


def test_the_store_is_reused_without_tokenizing_again(
    tokenizer: Any, table_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counting(monkeypatch)
    rows = pl.read_csv(table_path)
    first = encode(rows, ["text"], tokenizer, tmp_path)
    again = encode(rows.with_columns(label=pl.lit("x")), ["text"], tokenizer, tmp_path)
    assert calls == [90]
    assert rows_of(again) == rows_of(first)


def test_another_text_column_order_or_tokenizer_is_another_store(
    tokenizer: Any, pieces: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counting(monkeypatch)
    rows = pl.DataFrame({"a": ["my card", "fee"], "b": ["loan", "debt"]})
    encode(rows, ["a", "b"], tokenizer, tmp_path)
    encode(rows, ["b", "a"], tokenizer, tmp_path)
    encode(rows, ["a"], tokenizer, tmp_path)
    encode(rows.reverse(), ["a", "b"], tokenizer, tmp_path)
    encode(rows.with_columns(b=pl.Series(["loan", "debt "])), ["a", "b"], tokenizer, tmp_path)
    encode(rows, ["a", "b"], pieces, tmp_path)
    assert len(calls) == 6
    assert len(list(tmp_path.iterdir())) == 6


def test_cells_in_other_columns_are_another_store(tokenizer: Any, tmp_path: Path) -> None:
    beside = pl.DataFrame({"a": ["fee"], "b": ["loan"]})
    below = pl.DataFrame({"a": ["fee", "loan"]})
    assert len(encode(beside, ["a", "b"], tokenizer, tmp_path)) == 1
    assert len(encode(below, ["a"], tokenizer, tmp_path)) == 2


def test_text_that_moves_between_cells_is_another_store(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counting(monkeypatch)
    for first, second in (("card fee", "loan"), ("card", " feeloan"), ("card feeloan", "")):
        encode(pl.DataFrame({"a": [first, second]}), ["a"], tokenizer, tmp_path)
    assert len(calls) == 3


def test_a_half_written_store_is_written_again(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pl.DataFrame({"text": ["card fee", "loan"]})

    def stopped(*_: Any) -> Any:
        yield text._Part(np.array([1], dtype=np.int32), np.array([1]), 0)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(text, "_tokenize", stopped)
        with pytest.raises(KeyboardInterrupt):
            encode(rows, ["text"], tokenizer, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert rows_of(encode(rows, ["text"], tokenizer, tmp_path)) == rows_of(
        encode(rows, ["text"], tokenizer)
    )


def _without_checksum(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    del manifest["sha256"]
    path.write_text(json.dumps(manifest), "utf-8")


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "manifest": lambda folder: (folder / "manifest.json").write_text("[]"),
    "manifest-deep": lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
    "manifest-of-before-there-was-a-checksum": _without_checksum,
    "ids-flipped": lambda folder: (folder / "ids.bin").write_bytes(
        bytes([(folder / "ids.bin").read_bytes()[0] ^ 1, *(folder / "ids.bin").read_bytes()[1:]])
    ),
    "offsets-moved": lambda folder: np.save(folder / "offsets.npy", np.array([0, 1, 3])),
    "ids-cut": lambda folder: (folder / "ids.bin").write_bytes(b"\0\0"),
    "ids-gone": lambda folder: (folder / "ids.bin").unlink(),
    "offsets-pickled": lambda folder: np.save(
        folder / "offsets.npy", np.array([{}]), allow_pickle=True
    ),
    "offsets-fall": lambda folder: np.save(folder / "offsets.npy", np.array([0, 7, 3])),
    "offsets-of-other-rows": lambda folder: np.save(folder / "offsets.npy", np.array([0, 3])),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_made_anew_and_said(
    tokenizer: Any, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pl.DataFrame({"text": ["card fee", "loan"]})
    sound = rows_of(encode(rows, ["text"], tokenizer, tmp_path))
    folder = next(tmp_path.iterdir())
    text._sha256.cache_clear()  # as another process
    DAMAGES[damage](folder)
    assert rows_of(encode(rows, ["text"], tokenizer, tmp_path)) == sound
    assert capsys.readouterr().err == f"warning: {folder}: not as it was written; made anew\n"
    assert rows_of(encode(rows, ["text"], tokenizer, tmp_path)) == sound
    assert capsys.readouterr().err == ""


def test_a_flipped_bit_of_a_store_is_found_or_without_effect(
    tokenizer: Any, tmp_path: Path
) -> None:
    rows = pl.DataFrame({"text": ["card fee", "loan", "debt call"]})
    store = encode(rows, ["text"], tokenizer, tmp_path)
    sound, offsets = rows_of(store), store.offsets.tolist()
    for path in sorted(next(tmp_path.iterdir()).iterdir()):
        content = path.read_bytes()
        for bit in range(0, 8 * len(content), 5):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            text._sha256.cache_clear()
            found = text._open(path.parent, len(rows))
            if path.name == "ids.bin":
                assert found is None, bit
            if found is not None:
                assert (rows_of(found), found.offsets.tolist()) == (sound, offsets), bit
                assert found.bounded == 0
        path.write_bytes(content)


def test_a_store_is_read_through_once_a_process(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pl.DataFrame({"text": ["card fee", "loan"]})
    encode(rows, ["text"], tokenizer, tmp_path)
    text._sha256.cache_clear()
    read: list[str] = []
    digest = text.sha256
    monkeypatch.setattr(text, "sha256", lambda path: (read.append(path.name), digest(path))[1])
    for _ in range(3):
        encode(rows, ["text"], tokenizer, tmp_path)
    assert read == ["offsets.npy", "ids.bin"]


def test_a_store_that_reads_otherwise_than_written_ends_in_one_message(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_open", lambda folder, rows: None)
    with pytest.raises(FoldwiseError, match="reads otherwise than it was just written"):
        encode(pl.DataFrame({"text": ["card"]}), ["text"], tokenizer, tmp_path)


@pytest.mark.parametrize("inside", ["", "ids.bin", "stores"])
def test_a_store_behind_a_link_is_refused(tokenizer: Any, tmp_path: Path, inside: str) -> None:
    rows = pl.DataFrame({"text": ["card fee", "loan"]})
    stores = tmp_path / "stores"
    encode(rows, ["text"], tokenizer, stores)
    linked = stores if inside == "stores" else next(stores.iterdir()) / inside
    linked.rename(tmp_path / "away")
    linked.symlink_to(tmp_path / "away")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FoldwiseError, match=f"{linked.name}: is a link"):
        encode(rows, ["text"], tokenizer, stores)
    assert sorted(tmp_path.rglob("*")) == before


def test_truncation_and_padding_saved_with_a_tokenizer_do_not_cut_the_store(
    backbone: Path, tmp_path: Path
) -> None:
    tokenizer: Any = load_tokenizer(backbone)
    plain = tokenizer.backend_tokenizer
    plain.enable_truncation(8)
    plain.enable_padding(length=8)
    (tmp_path / "config.json").write_bytes((backbone / "config.json").read_bytes())
    tokenizer.save_pretrained(tmp_path)
    plain.save(str(tmp_path / "tokenizer.json"))
    cutting = load_tokenizer(tmp_path)
    assert cutting.backend_tokenizer.truncation is not None
    rows = pl.DataFrame({"text": ["card fee " * 10, "loan"]})
    assert encode(rows, ["text"], cutting).lengths.tolist() == [20, 1]


def test_encoding_leaves_the_tokenizer_as_it_was(pieces: Any) -> None:
    before = pieces.backend_tokenizer.to_str()
    encode(pl.DataFrame({"text": ["my card"]}), ["text"], pieces)
    assert pieces.backend_tokenizer.to_str() == before


def test_the_frame_of_a_bert_tokenizer(tokenizer: Any) -> None:
    frame = frame_of(tokenizer)
    assert (frame.before, frame.after, frame.separator) == ((2,), (3,), (3,))
    assert (frame.pad, frame.padding_side, frame.size) == (0, "right", 2)


def test_a_tokenizer_without_separator_and_pad_token_uses_newline_and_end_of_text(
    bytes_only: Any,
) -> None:
    bytes_only.eos_token = "z"
    frame = frame_of(bytes_only)
    newline, end = ids_of(bytes_only, "Ċ", "z")
    assert (frame.before, frame.after, frame.separator, frame.pad) == ((), (), (newline,), end)
    rows = pl.DataFrame({"a": ["x"], "b": [None]}, schema={"a": pl.String, "b": pl.String})
    store = encode(rows, ["a", "b"], bytes_only)
    assert bytes_only.decode(store[0].tolist()) == "x\nmissing"


def test_a_tokenizer_without_any_special_token_pads_with_the_first_id(bytes_only: Any) -> None:
    assert frame_of(bytes_only).pad == 0


def test_gpt2_backbones_are_encoded(backbones: Backbones) -> None:
    tokenizer = load_tokenizer(backbones("gpt2"))
    store = encode(pl.DataFrame({"text": ["Zebra fee"]}), ["text"], tokenizer)
    assert store[0].tolist() == ids_of(tokenizer, "<unk>", "fee")
    assert frame_of(tokenizer).pad == tokenizer.eos_token_id


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("cells", [[], ["", ""]])
def test_no_rows_and_no_tokens_make_an_empty_store(
    tokenizer: Any, tmp_path: Path, on_disk: bool, cells: list[str]
) -> None:
    rows = pl.DataFrame({"text": cells}, schema={"text": pl.String})
    for _ in range(2):  # written, then read
        store = encode(rows, ["text"], tokenizer, tmp_path if on_disk else None)
        assert store.lengths.tolist() == [0] * len(cells)
        assert rows_of(store) == [[] for _ in cells]


def test_the_span_of_a_store_is_that_of_all_its_ids(
    tokenizer: Any, table_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "SPAN", 7)
    rows = pl.read_csv(table_path)
    for stores in (None, tmp_path):
        store = encode(rows, ["text"], tokenizer, stores)
        assert len(store.ids) > 20
        assert store.span() == (0, store.ids.max())
    assert encode(rows.clear(), ["text"], tokenizer).span() == (0, 0)
