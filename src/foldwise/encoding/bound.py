"""Very long cells: tokenize no more of them than is used, and get the same tokens.

In: a cell of over LONG characters, and how many of its first and last tokens are needed. Out: those
tokens, by tokenizing its beginning and end alone. That is exact only where the text is cut at a
place at which the tokenizer parts it in any case: behind an ASCII letter or digit, in front of a
space (or between ideographs, where it sets each apart). No Unicode normal form joins characters
across such a place, and the pre-tokenizers listed here part the text there; what stands on one side
then can't change the tokens on the other. With any other tokenizer the whole cell is tokenized.

A cell of 20 million characters took MiniLM's tokenizer a minute; its first 256 tokens take 10 ms.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

LONG = 100_000  # characters up to which a cell is tokenized as a whole, so that its length is known
CHARS_A_TOKEN = 16  # to begin with; doubled until there are tokens enough
_WORD = "[A-Za-z0-9]"
_STOPS = ".,;:!?)"  # signs that words end with, which no normal form joins with others
_IDEOGRAPH = "\u4e00-\u9fff"
_SPLITS = frozenset(
    {  # of Llama 3, Qwen 2 and GPT-4: a piece may begin with a space, none goes on behind one
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+"
        r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        for digits in (r"\p{N}{1,3}", r"\p{N}")
    }
)
_LOCAL = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"} | {
    *("Precompiled", "Nmt")
}


@dataclass(frozen=True)
class Need:
    """How many tokens of a cell are used at most.

    Attributes:
        head: from its beginning. One more than is read tells that the cell is cut.
        tail: from its end.
    """

    head: int
    tail: int = 0


@dataclass(frozen=True)
class Seams:
    """Where a tokenizer parts every text.

    Attributes:
        before: matches at a place that a beginning may end at.
        after: matches at a place that an end may begin at; None where there is none.
        ends: signs, as a regular expression's class has them, behind which and in front of a space
            with an ASCII letter or digit every text is parted, and what follows, the space too, has
            the tokens of a text of its own; None where there is none.
        word: characters of a run of ASCII letters and digits from which a word is unknown; None
            where long words have tokens.
    """

    before: re.Pattern[str]
    after: re.Pattern[str] | None
    ends: str | None
    word: int | None


def seams_of(tokenizer: Tokenizer) -> Seams | None:
    """Say where a tokenizer parts every text; None where that isn't known for certain."""
    parts = json.loads(tokenizer.to_str())
    normalizers, pre = _flat(parts["normalizer"]), _flat(parts["pre_tokenizer"])
    if not all(map(_is_local, normalizers)) or not _parts_at_spaces(pre):
        return None
    kinds = {part["type"] for part in (*normalizers, *pre)}
    bert = [part for part in normalizers if part["type"] == "BertNormalizer"]
    apart = _IDEOGRAPH if any(part["handle_chinese_chars"] for part in bert) else ""
    before = re.compile(f"(?<=[A-Za-z0-9{apart}])(?=[ {apart}])")
    at_ideograph = f"|[{apart}]" if apart else ""
    after = re.compile(f"(?<=[A-Za-z0-9{apart}])(?= {_WORD}{at_ideograph})")
    # A token that was added to the vocabulary is looked for in the text as it stands.
    added = [token for token in parts["added_tokens"] if not token["special"]]
    if any(token["rstrip"] or before.search(token["content"]) for token in added):
        return None
    model = parts["model"]
    whole_words = kinds & {"BertPreTokenizer", "WhitespaceSplit"} and model["type"] == "WordPiece"
    word = model["max_input_chars_per_word"] + 1 if whole_words else None
    # A beginning that is stripped of its space isn't what stands there in the text.
    if "Strip" in kinds:
        return Seams(before, None, None, word)
    ends = "A-Za-z0-9" + ("" if _replaces_spaces(normalizers) else _STOPS)
    if any(re.search(f"[{ends}] {_WORD}", token["content"]) for token in added):
        ends = "A-Za-z0-9"
    return Seams(before, after, ends, word)


def bounded(
    text: str, need: Need, seams: Seams, ids_of: Callable[[str], list[int]]
) -> list[int] | None:
    """Return a cell's first and last tokens; None where the whole cell has to be tokenized.

    Args:
        text: the cell.
        need: how many; at least as many come out, the beginning's first.
        seams: of the tokenizer.
        ids_of: tokenizes a text.
    """
    ids = _ends(text, need, seams, ids_of)
    if ids is None and seams.word is not None:
        # A run without a seam is one unknown word, however long.
        shorter = re.sub(f"({_WORD}{{{seams.word}}}){_WORD}+", r"\1", text)
        return _ends(shorter, need, seams, ids_of) or ids_of(shorter)
    return ids


def _ends(
    text: str, need: Need, seams: Seams, ids_of: Callable[[str], list[int]]
) -> list[int] | None:
    size = CHARS_A_TOKEN * need.head
    while True:
        found = seams.before.search(text, size)
        if found is None:
            return None
        head, end = ids_of(text[: found.start()]), found.start()
        if len(head) >= need.head:
            break
        size = 2 * end
    if not need.tail:
        return head
    size = CHARS_A_TOKEN * need.tail
    while seams.after is not None and (start := len(text) - size) > end:
        found = seams.after.search(text, start)
        if found is not None and len(tail := ids_of(text[found.start() :])) >= need.tail:
            return head + tail
        size *= 2
    return None


def _flat(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    inner = part.get("normalizers") or part.get("pretokenizers") or []
    return [piece for below in inner for piece in _flat(below)]


def _is_local(normalizer: dict[str, Any]) -> bool:
    kind = normalizer["type"]
    if kind == "Replace":
        pattern = normalizer["pattern"]
        text = pattern.get("String")
        return pattern == {"Regex": " {2,}"} or (text is not None and not re.search(r"\w", text))
    return kind in _LOCAL or (kind == "Strip")


def _replaces_spaces(normalizers: list[dict[str, Any]]) -> bool:
    """Say whether signs beside a space may be replaced together with it."""
    patterns = [part["pattern"].get("String") for part in normalizers if part["type"] == "Replace"]
    return any(" " in pattern for pattern in patterns if pattern is not None)


def _parts_at_spaces(pre: list[dict[str, Any]]) -> bool:
    """Say whether the first step that parts the text does so at spaces."""
    for part in pre:
        kind = part["type"]
        if kind in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit"):
            return True
        if kind == "ByteLevel":
            return bool(part["use_regex"])
        if kind == "Metaspace":
            return bool(part["split"])
        if kind == "Split":
            known = part["pattern"].get("Regex") in _SPLITS
            return known and part["behavior"] == "Isolated" and not part["invert"]
        if kind not in ("Punctuation", "Digits"):
            return False
    return False
