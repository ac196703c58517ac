"""Sections on the model: tokenization, backbone, pooling, head, adapters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from foldwise.config.grammar import (
    Kind,
    Name,
    Part,
    Positive,
    Problem,
    Section,
    Words,
    refuse,
)
from foldwise.config.tabular import Tabular


class Text(Section):
    """How columns become token ids."""

    max_length: int = Field(
        default=256,
        ge=4,
        le=131072,
        description="Longest input in tokens, special tokens included.",
    )
    long: Literal["truncate", "head_tail", "chunks"] = Field(
        default="truncate",
        description="Longer texts: keep the start (`truncate`), start and end (`head_tail`), or "
        "all, in overlapping `chunks` of max_length, categories and numbers in front of each.",
    )
    stride: int | None = Field(
        default=None,
        ge=0,
        description="Tokens that neighbouring chunks share at least; null: an eighth of "
        "max_length.",
    )
    max_chunks: int | None = Field(
        default=None,
        ge=1,
        description="Chunks of a text at most, from its start; null: as many as it needs. "
        "log.jsonl says what is still cut.",
    )
    chunk_pooling: Annotated[Part, Kind("pooling")] | None = Field(
        default=None,
        description="What makes one vector of a text's chunks: the poolings of model.pooling; "
        "null: mean.",
    )

    @model_validator(mode="before")
    @classmethod
    def _chunks_are_resolved(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("long") != "chunks":
            return values
        length = values.get("max_length", cls.model_fields["max_length"].default)
        defaults: dict[str, Any] = {"chunk_pooling": "mean"}
        if isinstance(length, int):
            defaults["stride"] = length // 8
        given = {key: value for key, value in values.items() if value is not None}
        return values | defaults | given

    @model_validator(mode="after")
    def _chunk_keys_have_chunks(self) -> Text:
        if self.long == "chunks":
            return self
        message = f"is only used by text.long: chunks, not {self.long}"
        problems = [
            Problem((key,), message, (("long",),))
            for key in ("stride", "max_chunks", "chunk_pooling")
            if getattr(self, key) is not None
        ]
        if problems:
            refuse(problems)
        return self


class Head(Section):
    """What maps the pooled vector to logits."""

    hidden: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list, description="Sizes of hidden layers; [] is one linear layer."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Dropout before each linear layer."
    )
    activation: Annotated[Part, Kind("activation")] = Field(
        default_factory=lambda: Part(name="gelu"),
        description="What follows a hidden layer: gelu, relu, tanh, silu, a Module of torch.nn, or "
        "`my_parts.Activation`.",
    )
    norm: Literal["none", "layer"] = Field(
        default="none",
        description="`layer`: layer normalization between a hidden layer and its activation.",
    )
    samples: int = Field(
        default=1,
        ge=1,
        description="Dropout masks a row in training, whose logits are averaged (multi-sample "
        "dropout, Inoue 2019).",
    )

    @model_validator(mode="after")
    def _every_key_does_something(self) -> Head:
        problems = []
        if not self.hidden:
            message = "does nothing without hidden layers; list their sizes under hidden"
            if self.activation != Part(name="gelu"):
                problems.append(Problem(("activation",), message, (("hidden",),)))
            if self.norm != "none":
                problems.append(Problem(("norm",), message, (("hidden",),)))
        if self.samples > 1 and self.dropout == 0:
            message = "does nothing where dropout is 0: all masks are the same"
            problems.append(Problem(("samples",), message, (("dropout",),)))
        if problems:
            refuse(problems)
        return self


def _layers_or_part(value: Any) -> str:
    named = isinstance(value, str | Part) or (isinstance(value, dict) and "name" in value)
    return "<part>" if named else "<layers>"


class Lora(Section):
    """Low-rank adapters beside the backbone's linear layers."""

    r: int = Field(default=16, ge=1, description="Rank: width of an adapter's bottleneck.")
    alpha: Positive = Field(
        default=32.0,
        description="Scale of what adapters add: alpha / r (rslora: alpha / sqrt(r)).",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.05, description="Dropout of what goes into an adapter."
    )
    targets: Literal["all-linear"] | Annotated[list[Name], Field(min_length=1)] = Field(
        default="all-linear",
        description="Layers to adapt: `all-linear` in the blocks, or names such as [query, value].",
    )
    variant: Literal["lora", "rslora", "dora"] = Field(
        default="lora",
        description="`lora` (Hu et al. 2022), `rslora` (steadier at high ranks), or `dora` (Liu et "
        "al. 2024: magnitudes learn too; slower).",
    )


class Model(Section):
    """Backbone, pooling and head."""

    backbone: Name = Field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        description="A local folder, a model carried by an installed package, or a hub name.",
    )
    revision: Name | None = Field(
        default=None, description="Commit of a hub backbone: 40 hex digits pin the exact weights."
    )
    freeze: int = Field(
        default=0,
        ge=0,
        description="Blocks frozen from the bottom, embeddings with them; 0 trains all.",
    )
    pooling: Annotated[Part, Kind("pooling")] = Field(
        default_factory=lambda: Part(name="mean"),
        description="mean, cls (first token), max, mean_max (both, twice as wide), attention "
        "(learned weights), queries (the mean, and what a few learned queries find), last (token; "
        "for decoders), or `my_parts.Pooling`.",
    )
    layers: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="Top layers whose outputs pooling reads a learned average of (Peters et al. "
        "2018); null: the last alone.",
    )
    embedding: Literal["auto", "tokens", "middle_and_last", "last"] = Field(
        default="auto",
        description="What members that read the frozen backbone get of a text: the mean over its "
        "tokens of the `last` hidden states; beside it that after two thirds of the blocks "
        "(`middle_and_last`, twice as wide), which know more of tone; and of `tokens` the latter's "
        "state of each, among which `network` learns what to look for. `auto`: that, where the "
        "table's states take at most 4 GiB on disk.",
    )
    fusion: Annotated[Part, Kind("fusion")] = Field(
        default_factory=lambda: Part(name="text"),
        description="How categories and numbers enter: in the `text` template, by embeddings "
        "beside the text's vector (`concat`; `gated`, `size:` its width; Arevalo et al. 2017), as "
        "`tokens` in front of the text's, or `my_parts.Fusion`. concat without data.text: no "
        "backbone.",
    )
    tabular: Tabular = Field(
        default_factory=Tabular,
        description="Embeddings of categories and numbers, where fusion isn't text.",
    )
    head: Annotated[
        Annotated[Head, Tag("<layers>")] | Annotated[Part, Kind("head"), Tag("<part>")],
        Discriminator(_layers_or_part),
        Words("a map of layer settings, or a part of your own such as my_parts.Head"),
    ] = Field(
        default_factory=Head,
        description="`{hidden: [256], activation: silu, ...}`, or `my_parts.Head`.",
    )
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Dropout of attention probabilities; null: the backbone's own on a GPU, 0 on a "
        "CPU, where it costs a third of the step.",
    )
    attention: Literal["auto", "flash", "sdpa", "eager"] = Field(
        default="auto",
        description="How attention is computed: `flash` (CUDA, bf16 and the package flash-attn), "
        "`sdpa` (torch's fused kernel), `eager`; `auto`: the first of them that the backbone and "
        "the device have, eager on a CPU with attention dropout.",
    )
    lora: Lora | None = Field(
        default=None,
        description="Train low-rank adapters in place of the backbone's weights: `{r: 16}`; null: "
        "the weights themselves. Pooling, columns and head are trained in full.",
    )
    quantize: Literal["8bit", "4bit"] | None = Field(
        default=None,
        description="Hold the backbone's linear layers in `8bit` (LLM.int8) or `4bit` "
        "(NormalFloat, double quantization), for adapters to learn beside; with "
        "checkpoint_activations, 4bit is QLoRA (Dettmers et al. 2023).",
    )
    checkpoint_activations: bool = Field(
        default=False,
        description="Recompute activations in the backward pass: less memory, a third slower.",
    )

    @model_validator(mode="after")
    def _adapters_are_what_learns(self) -> Model:
        problems = []
        if self.lora is not None and self.freeze:
            message = (
                "does nothing with lora, which leaves the whole backbone as it is; set it to 0"
            )
            problems.append(Problem(("freeze",), message, (("lora",),)))
        if self.lora is None and self.quantize is not None:
            message = f"needs lora: weights in {self.quantize} can't learn; add lora: {{r: 16}}"
            problems.append(Problem(("quantize",), message, (("lora",),)))
        if self.lora is not None and self.lora.variant == "dora" and self.quantize == "8bit":
            message = "8bit can't be combined with dora, whose norms bitsandbytes loses; use 4bit"
            problems.append(Problem(("quantize",), message, (("lora",),)))
        if problems:
            refuse(problems)
        return self
