"""Which of a frozen backbone's layers tell classes apart, by a linear model and by small networks?

    python benchmarks/frozen_layers.py [--tables alexa,banking] [--training-rows 1500]
                                       [--most-rows 4000] [--dir runs-layers] [--shared DIR]
                                       [--backbone DIR]

Samples of the real tables of levers.py, three folds, every row scored once. A text is the mean over
its tokens of what a layer says (0: the embeddings of words), or of two layers side by side; the
member `embedding` is fitted on it, and `network` on the layers that runs read. No model is trained.
Printed for each: the log loss and macro-F1 of all rows, and seconds of the three fits.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, log_loss
from torch import Tensor

from foldwise.commands.quiet import quiet_libraries
from foldwise.encoding.batches import pad_batch
from foldwise.hardware.device import build_accelerator
from foldwise.members.embedding import Embedding
from foldwise.members.frozen import Frozen, MeanVectors
from foldwise.members.member import Columns, Floats, Member, with_vectors
from foldwise.members.network import Network
from foldwise.training.inference import infer
from lever_tables import FOLDS, TABLES, Bench, Setting, open_bench

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


class EveryLayer(MeanVectors):
    """What each layer of a backbone says of a text: (B, layers, H)."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, chunk_row: Tensor | None = None
    ) -> Tensor:
        """Return the mean over a text's tokens, layer by layer; windows aren't told apart."""
        hidden = self.backbone(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
        )
        read = [self.pooling(states, attention_mask) for states in hidden.hidden_states]
        return torch.stack(read, dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", default="alexa,recommended,clothing,narrative,banking")
    parser.add_argument("--training-rows", type=int, default=1500)
    parser.add_argument("--most-rows", type=int, default=4000, help="of a table's sample")
    parser.add_argument("--dir", type=Path, default=Path("runs-layers"))
    parser.add_argument("--shared", type=Path, default=DEFAULT)
    parser.add_argument("--backbone", default=MINILM)
    options = parser.parse_args()
    quiet_libraries(online=False)
    options.dir.mkdir(parents=True, exist_ok=True)
    print("| table | member | layers | log loss | macro-F1 | seconds |")
    for name in options.tables.split(","):
        setting = Setting(
            options.dir.resolve(),
            options.shared.resolve(),
            options.backbone,
            "cpu",
            options.training_rows,
            options.most_rows,
            TABLES[name].tokens[1],
            1,
        )
        for told in lines(open_bench(name, setting)):
            print(f"| {name} | {told}", flush=True)


def lines(bench: Bench) -> list[str]:
    """Return a line for each choice of layers."""
    vectors = every_layer(bench)
    top, middle = vectors.shape[1] - 1, 2 * (vectors.shape[1] - 1) // 3
    choices: list[tuple[type[Any], tuple[int, ...]]] = [
        *((Embedding, (layer,)) for layer in range(top + 1)),
        (Embedding, (top, middle)),
        (Network, (top,)),
        (Network, (top, middle)),
    ]
    told = []
    for kind, layers in choices:
        began = time.monotonic()
        made = predicted(bench, kind, vectors[:, list(layers)])
        seconds = time.monotonic() - began
        loss = log_loss(bench.target, made, labels=range(bench.n_outputs))
        f1 = f1_score(bench.target, made.argmax(axis=1), average="macro")
        named = " and ".join(map(str, layers))
        told.append(f"{kind.__name__.lower()} | {named} | {loss:.4f} | {f1:.3f} | {seconds:.0f} |")
    return told


def every_layer(bench: Bench) -> NDArray[np.float32]:
    """Return what each layer says of each row's text, float32 (n, layers, H)."""
    accelerator = build_accelerator(bench.config.training)
    frozen = Frozen.of_run(bench.prepared, accelerator)
    texts = frozen.texts(bench.prepared.frame)
    vectors, _ = infer(
        EveryLayer(frozen.model.backbone, middle=True),
        texts,
        np.arange(len(texts)),
        lambda rows: pad_batch(rows, texts.frame),
        accelerator,
        batch_size=16,
    )
    return vectors.astype(np.float32)


def predicted(bench: Bench, kind: type[Any], vectors: NDArray[np.float32]) -> Floats:
    """Return what a member says of rows that it hasn't seen."""
    data = bench.config.data
    columns = Columns(tuple(data.text), tuple(data.categorical), tuple(data.numeric))
    frame = with_vectors(bench.prepared.frame, vectors)
    made = np.zeros((frame.height, bench.n_outputs))
    for fold in FOLDS:
        known, scored = bench.training(fold), bench.scored(fold)
        member: Member = kind("label", bench.n_outputs, columns, 0)
        member.fit(frame[known.tolist()], bench.target[known], np.zeros(len(known), dtype=bool))
        made[scored] = member.predict(frame[scored.tolist()])
    return made


if __name__ == "__main__":
    main()
