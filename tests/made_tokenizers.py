"""Tokenizers of many families, trained on a line, and signs that are hard on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenizers import (
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from foldwise.encoding import bound
from foldwise.models.resolve import resolve_backbone

CORPUS = ["the bank lost my card, again! It was 1234 dollars; naïve café 我能吞下 x y z"] * 50
# Combining marks, joiners, ligatures, ideographs, spaces of several kinds, words in ASCII.
SIGNS = [
    *"aB1 9z.,'!\n\t\u0301\u200d\xa0\u2028我能́é½ﬁ\u0600İß\u017f한\u1100\u1161`_-",
    *[" "] * 8,
    *"the card ",
]
LLAMA = next(iter(sorted(bound._SPLITS)))


def of_bytes(normalizer: Any, pre: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def of_pieces(normalizer: Any, pre: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre
    trainer = trainers.UnigramTrainer(
        vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def mini_lm() -> Tokenizer:
    folder = resolve_backbone("sentence-transformers/all-MiniLM-L6-v2", None).folder
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


N, P = normalizers, pre_tokenizers
KINDS: dict[str, Callable[[], Tokenizer]] = {
    "bert": mini_lm,
    "gpt2": lambda: of_bytes(None, P.ByteLevel(add_prefix_space=False)),
    "roberta": lambda: of_bytes(N.NFC(), P.ByteLevel(add_prefix_space=True)),
    "llama3": lambda: of_bytes(
        None,
        P.Sequence(
            [
                P.Split(Regex(LLAMA), "isolated"),
                P.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    ),
    "xlm-r": lambda: of_pieces(
        N.Sequence([N.NFKC(), N.Replace(Regex(" {2,}"), " ")]),
        P.Sequence([P.WhitespaceSplit(), P.Metaspace()]),
    ),
    "albert": lambda: of_pieces(
        N.Sequence([N.Replace("``", '"'), N.NFKD(), N.StripAccents(), N.Lowercase()]),
        P.Metaspace(),
    ),
    "deberta": lambda: of_pieces(N.Sequence([N.Strip(), N.NFKC()]), P.Metaspace()),
}
