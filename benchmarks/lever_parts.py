"""What levers.py does to a model that Foldwise itself doesn't: one function or module a lever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from foldwise.ensemble.blend import blend, fit_weights
from foldwise.members.member import Floats
from foldwise.models.backbone import blocks_of
from foldwise.preparation.prepare import Prepared
from foldwise.training.batching import Sampler
from foldwise.training.inference import infer
from foldwise.training.loading import reseed, to_device
from lever_tables import CROSS_FITTED, Bench

PENALTY = 3e-3  # on the probed head's weights
BUCKETS = 2**14
WIDE_RATE = 2e-2
HIDDEN, SHOWN, RANDOM = 0.15, 0.1, 0.1  # as BERT was trained (Devlin et al. 2019, section 3.1)
WORD_RATES = (1e-4, 1e-3)  # of the backbone and of the words' head


def reinitialise(backbone: nn.Module, blocks: int) -> None:
    """Draw the top blocks anew, as before any training (Zhang et al. 2021, section 4)."""
    config: Any = backbone.config
    for block in list(blocks_of(backbone))[-blocks:]:
        for module in block.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=config.initializer_range)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)


class WordHead(nn.Module):
    """BERT's head for masked words: a layer, then the word embeddings themselves."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        config: Any = backbone.config
        self.words = backbone.get_input_embeddings().weight  # type: ignore[operator]
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.bias = nn.Parameter(torch.zeros(len(self.words)))
        nn.init.normal_(self.dense.weight, std=config.initializer_range)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (n, H) to logits of the words (n, vocabulary)."""
        vectors = self.norm(nn.functional.gelu(self.dense(hidden)))
        return vectors @ self.words.t() + self.bias


def pretrain(
    prepared: Prepared,
    backbone: nn.Module,
    rows: NDArray[np.int64],
    passes: int,
    accelerator: Accelerator,
    seed: tuple[int, ...],
) -> tuple[float, float]:
    """Go on with masked words on the texts of some rows (Gururangan et al. 2020); labels unseen.

    A sentence encoder has no head for words any more. Its new one learns alone over the first tenth
    of the steps, so that it doesn't throw the backbone about.

    Returns:
        The mean loss of the first and of the last tenth of the steps.
    """
    task: Any = prepared.task
    head = WordHead(backbone).to(accelerator.device)
    own = [p for name, p in head.named_parameters() if name != "words"]
    groups = [
        {"params": list(backbone.parameters()), "lr": WORD_RATES[0], "weight_decay": 0.01},
        {"params": own, "lr": WORD_RATES[1], "weight_decay": 0.01},
    ]
    sampler = Sampler(prepared.dataset.lengths[rows], len(rows), 32, None, 1, (*seed, 9))
    steps = sum(len(sampler.windows(epoch)) for epoch in range(passes))
    begin = steps // 10

    def falling(step: int) -> float:
        return max(0.0, 1 - (step - begin) / max(1, steps - begin)) if step >= begin else 0.0

    optimizer = torch.optim.AdamW(groups, fused=True)
    schedule = LambdaLR(optimizer, [falling, lambda step: falling(max(step, begin))])
    hide = _hider(task.tokenizer, len(head.words), (*seed, 9))
    losses: list[Tensor] = []
    backbone.train()
    for epoch in range(passes):
        for number, (positions,) in enumerate(sampler.windows(epoch)):
            batch = task.collate([prepared.dataset[row] for row in rows[positions].tolist()])
            ids, hidden, true = hide(batch["input_ids"])
            reseed(*seed, epoch, number, 9)
            with accelerator.autocast():
                states = backbone(
                    input_ids=ids.to(accelerator.device),
                    attention_mask=batch["attention_mask"].to(accelerator.device),
                ).last_hidden_state
                logits = head(states[hidden.to(accelerator.device)])
            loss = nn.functional.cross_entropy(logits.float(), true.to(accelerator.device))
            loss.backward()
            nn.utils.clip_grad_norm_([*backbone.parameters(), *own], 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
    told = torch.stack(losses)
    part = max(1, steps // 10)
    return float(told[:part].mean()), float(told[-part:].mean())


def _hider(
    tokenizer: Any, words: int, seed: tuple[int, ...]
) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    # ids (B, L) -> ids with some hidden, which (B, L), and what they were (n,).
    random = np.random.default_rng(seed)
    special = np.array(tokenizer.all_special_ids)

    def hide(ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = ids.numpy()
        plain = ~np.isin(found, special)
        hidden = plain & (random.random(found.shape) < HIDDEN)
        if not hidden.any():
            hidden.flat[plain.argmax()] = True  # a batch of next to nothing still has a loss
        draw, shown = random.random(found.shape), found.copy()
        shown[hidden & (draw >= SHOWN + RANDOM)] = tokenizer.mask_token_id
        other = hidden & (draw < RANDOM)
        shown[other] = random.integers(0, words, int(other.sum()))
        return torch.from_numpy(shown), torch.from_numpy(hidden), torch.from_numpy(found[hidden])

    return hide


class Wide(nn.Module):
    """A linear path over hashed words and categories beside the network (Cheng et al. 2016).

    Args:
        bench: its rows; how rare a word is follows from those trained on.
        known: positions trained on.
        n_outputs: logits a row.
    """

    def __init__(self, bench: Bench, known: NDArray[np.int64], n_outputs: int) -> None:
        super().__init__()
        frame, data = bench.prepared.frame, bench.config.data
        hashed = HashingVectorizer(n_features=BUCKETS, alternate_sign=False, norm=None)
        blocks = []
        for column in data.text:
            counts = hashed.transform(frame[column].fill_null("").to_list())
            weigh = TfidfTransformer(sublinear_tf=True).fit(counts[known])
            blocks.append(weigh.transform(counts))
        whole = HashingVectorizer(
            n_features=BUCKETS, alternate_sign=False, norm=None, analyzer=lambda cell: [cell]
        )
        for column in data.categorical:
            cells = frame[column].cast(str).fill_null("missing").to_list()
            blocks.append(whole.transform([f"{column}={cell}" for cell in cells]) * 0.5)
        self.features = sparse.csr_matrix(sum(blocks))
        self.weight = nn.Parameter(torch.zeros(BUCKETS, n_outputs))

    def forward(self, rows: NDArray[np.int64]) -> Tensor:
        """Return what is added to the logits of some rows, (B, n_outputs)."""
        features = torch.from_numpy(self.features[rows].toarray().astype(np.float32))
        return features.to(self.weight.device) @ self.weight


def probe(prepared: Prepared, model: Any, known: NDArray[np.int64], on: Accelerator) -> None:
    """Fit the head's last layer to the vectors that the untrained model pools."""
    task = prepared.task
    head, model.head = model.head, nn.Identity()
    pooled, target = infer(model, prepared.dataset, known, task.collate, on)
    model.head = head
    vectors, layer = torch.from_numpy(pooled).to(on.device), head.layers[-1]
    batch = to_device({"target": torch.as_tensor(target)}, on.device)
    search = torch.optim.LBFGS(
        layer.parameters(), max_iter=100, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        search.zero_grad()
        loss = task.loss(layer(vectors), batch).mean() + PENALTY / 2 * layer.weight.square().sum()
        loss.backward()
        return loss

    search.step(closure)  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)


def offsets(
    bench: Bench, fold: int, members: dict[str, Floats], inside: dict[str, Floats]
) -> Floats:
    """Return what is added to the logits of a fold's rows: a blend of members, (n, n_outputs).

    Args:
        bench: the table.
        fold: from 1.
        members: predictions of all rows, out of fold.
        inside: of the fold's training rows, by parts of them.
    """
    names = [name for name in CROSS_FITTED if name in inside]
    known, scored, holds = bench.training(fold), bench.scored(fold), bench.holds
    within = [inside[name] for name in names]
    weights = fit_weights(within, bench.target[known], holds)
    added = np.zeros((len(bench.fold), bench.n_outputs))
    for rows, made in ((known, within), (scored, [members[name][scored] for name in names])):
        blended = blend(weights, made, holds)
        if holds == "number":
            state: Any = bench.prepared.task.state()["rows"]
            added[rows] = (blended - state["mean"]) / state["deviation"]
        else:
            log = np.log(np.maximum(blended, np.finfo(np.float64).tiny))
            added[rows] = log - log.mean(axis=1, keepdims=True)
    return added
