"""Generate a table of consumer complaints that looks like the CFPB's and belongs to nobody.

In: a number of rows and a seed. Out: strings in the CFPB's columns, the same for the same (rows,
seed). The target is Product. Why generated: a sample that installs with the package must be free of
other people's letters, and hard in known ways. A product has events of its own, shares others with
its family, and a quarter of the letters tell two products' events in equal words ("not that A,
what happened is B"), so that part of the signal is in the order of words. On top come label noise,
template letters, missing cells, and a Sub-issue that several products share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import TypeVar

import numpy as np
import polars as pl

from foldwise.errors import FoldwiseError
from foldwise.synthetic.phrases import (
    ANY_SUB_ISSUES,
    ASKS,
    COMMON,
    CONTRASTS,
    COUNTS,
    FAMILIES,
    LEADS,
    OPENERS,
    SIGNATURES,
    TAILS,
    TOPICS,
    ZIP_PREFIXES,
)

T = TypeVar("T")

COLUMNS = (
    "Date received",
    "Product",
    "Sub-product",
    "Issue",
    "Sub-issue",
    "Consumer complaint narrative",
    "Company",
    "State",
    "ZIP code",
    "Complaint ID",
)
MIN_ROWS = 120  # 18 products with MIN_LETTERS each, and room for copies
MIN_LETTERS = 6  # distinct, correctly labelled letters of the rarest product: 3 folds and to spare
DECAY = 0.85  # a product's size relative to the next more frequent one's: from 15% down to 1%
NOISE, NO_TEXT, NO_SUB_ISSUE, NO_ZIP = 0.04, 0.004, 0.1, 0.03
COPIES, EXACT, RELABELLED = 0.055, 0.1, 0.08  # of rows; of copies; of copies
CONTRAST = 0.25  # letters that tell their product by the order of words only
OWN, FAMILY = 0.25, 0.2  # sentences that tell the product, and its family; the others tell neither
OWN_SUB_ISSUE, FAMILY_SUB_ISSUE = 0.33, 0.45


def complaints(rows: int = 2000, seed: int = 42) -> pl.DataFrame:
    """Return `rows` made-up complaints in random order, all columns strings.

    Raises:
        FoldwiseError: with fewer rows than give every product enough distinct letters.
    """
    if rows < MIN_ROWS:
        raise FoldwiseError(
            f"the synthetic sample has {len(TOPICS)} products with enough letters of each for 3 "
            f"folds, which takes {MIN_ROWS} rows, not {rows}: ask for {MIN_ROWS} or more"
        )
    u = _uniforms(seed)
    n_copies = round(COPIES * rows)
    products: list[str] = []
    texts: list[str | None] = []
    spare: list[int] = []
    for product, size in _sizes(rows - n_copies).items():
        for i in range(size):
            if i >= MIN_LETTERS:
                spare.append(len(texts))
            # Noise changes what a letter tells and not its label, so sizes stay as allotted.
            noisy = i >= MIN_LETTERS and next(u) < NOISE
            products.append(product)
            texts.append(_letter(u, _related(u, product) if noisy else product))
    for i in _draw(u, spare, max(1, round(NO_TEXT * rows))):
        texts[i] = None
    _add_copies(u, products, texts, n_copies)
    return _table(u, products, texts)


def _uniforms(seed: int) -> Iterator[float]:
    # One stream of plain uniforms: of a Generator's methods the one least likely ever to change.
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.random(4096).tolist()


def _pick(u: Iterator[float], options: Sequence[T]) -> T:
    return options[int(next(u) * len(options))]


def _draw(u: Iterator[float], options: Sequence[T], n: int) -> list[T]:
    left = list(options)
    return [left.pop(int(next(u) * len(left))) for _ in range(min(n, len(left)))]


def _sizes(letters: int) -> dict[str, int]:
    extra = letters - MIN_LETTERS * len(TOPICS)
    shares = [DECAY**rank for rank in range(len(TOPICS))]
    sizes = [MIN_LETTERS + int(extra * share / sum(shares)) for share in shares]
    sizes[0] += letters - sum(sizes)
    return dict(zip(TOPICS, sizes, strict=True))


def _related(u: Iterator[float], product: str) -> str:
    family = TOPICS[product].family
    siblings = [p for p, topic in TOPICS.items() if topic.family == family and p != product]
    others = [p for p in TOPICS if p != product]
    return _pick(u, siblings if next(u) < 0.75 else others)


def _letter(u: Iterator[float], product: str) -> str:
    topic = TOPICS[product]
    family = FAMILIES[topic.family]
    length = next(u)
    n_sentences = 1 + int(17 * length * length * length)  # median 3, a tail to 17
    told = int(next(u) * n_sentences)  # this sentence tells the product, or nothing would
    other = TOPICS[_related(u, product)] if next(u) < CONTRAST else None
    sentences = [_pick(u, OPENERS)]
    for i in range(n_sentences):
        kind = next(u)
        if i == told and other is not None:
            frame = _pick(u, CONTRASTS)
            sentences.append(frame.format(yes=_pick(u, topic.events), no=_pick(u, other.events)))
        elif i == told or (other is None and kind < OWN):
            sentences.append(_clause(u, topic.events))
        elif kind < OWN + FAMILY and (other is None or other.family == topic.family):
            sentences.append(_clause(u, family.events))
        else:
            sentences.append(_pick(u, COMMON))
    sentences.append(_pick(u, ASKS))
    filled = [_fill(u, s, _pick(u, family.companies)) for s in sentences if s]
    return " ".join(s[0].upper() + s[1:] + "." for s in filled)


def _clause(u: Iterator[float], events: Sequence[str]) -> str:
    return f"{_pick(u, LEADS)} {_pick(u, events)} {_pick(u, TAILS)}".strip()


def _fill(u: Iterator[float], sentence: str, company: str) -> str:
    if "{" not in sentence:
        return sentence
    return sentence.format(
        company=company, amount=_amount(u), date=_masked_date(u), count=_pick(u, COUNTS)
    )


def _amount(u: Iterator[float]) -> str:
    share = next(u)
    return f"{{${5 + int(9000 * share * share * share)}.00}}"


def _masked_date(u: Iterator[float]) -> str:
    return f"XX/XX/{2015 + int(11 * next(u))}"


def _add_copies(
    u: Iterator[float], products: list[str], texts: list[str | None], n_copies: int
) -> None:
    # A template letter is long and few of its words change: its copies stay near-identical.
    long = [i for i, text in enumerate(texts) if text is not None and text.count(" ") >= 60]
    templates = _draw(u, long, max(1, n_copies // 3))
    for i in range(n_copies):
        source = _pick(u, templates)
        text = texts[source]
        if text is not None and i >= EXACT * n_copies:
            text = re.sub(r"\{\$\d+\.00\}", _amount(u), text, count=1)
            text = re.sub(r"XX/XX/\d{4}", _masked_date(u), text, count=1)
            text = f"{_pick(u, SIGNATURES)}: {text}"
        product = products[source]
        texts.append(text)
        products.append(_related(u, product) if next(u) < RELABELLED else product)


def _table(u: Iterator[float], products: list[str], texts: list[str | None]) -> pl.DataFrame:
    cells = [_cells(u, p, text) for p, text in zip(products, texts, strict=True)]
    # Complaint IDs rise with the date, as the CFPB's do.
    by_day = sorted(range(len(cells)), key=lambda i: str(cells[i][0]))
    ids = {i: str(1_200_000 + 37 * place) for place, i in enumerate(by_day)}
    keys = [next(u) for _ in cells]
    order = sorted(range(len(cells)), key=lambda i: keys[i])
    shuffled = [(*cells[i], ids[i]) for i in order]
    return pl.DataFrame(shuffled, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def _cells(u: Iterator[float], product: str, text: str | None) -> tuple[str | None, ...]:
    topic, family = TOPICS[product], FAMILIES[TOPICS[product].family]
    first, last = (date(year, 1, 1) for year in topic.years)
    day = first + timedelta(days=int(next(u) * (last - first).days))
    kind = next(u)
    sub_issues = family.sub_issues if kind < OWN_SUB_ISSUE + FAMILY_SUB_ISSUE else ANY_SUB_ISSUES
    sub_issues = topic.sub_issues if kind < OWN_SUB_ISSUE else sub_issues
    state = _pick(u, tuple(ZIP_PREFIXES))
    zip_code = f"{_pick(u, ZIP_PREFIXES[state]):03d}{int(100 * next(u)):02d}"
    masked = zip_code[:3] + "XX" if next(u) < 0.6 else zip_code
    return (
        day.isoformat(),
        product,
        _pick(u, topic.sub_products),
        _pick(u, family.issues),
        _pick(u, sub_issues) if next(u) >= NO_SUB_ISSUE else None,
        text,
        _pick(u, family.companies),
        state,
        masked if next(u) >= NO_ZIP else None,
    )
