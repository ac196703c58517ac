"""Which of our heads are an architecture's own classification head, and how the weights go there.

In: the config of a run and of its backbone. Out: the weights of transformers'
`...ForSequenceClassification`, or why there are none that give the same logits. These heads are
fixed: encoders read the first token through one hidden layer with an activation of theirs, decoders
the last token through one layer without a bias.

A head of one linear layer fits an encoder's two where the activation between can be passed as if it
weren't there: DeBERTa's can be switched off, and tanh is the identity close to zero. There the
hidden layer scales by 2^-14 and the last one by 2^14, which is exact in float32: tanh(x) differs
from x by x^3/3, a share of 1e-7 for the values of a normalised layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from foldwise.config.model import Head
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError

SMALL = 2.0**-14
ANY = "any"


@dataclass(frozen=True)
class Place:
    """Where an architecture's own head is.

    Attributes:
        dense: the hidden layer.
        activation: behind it; ANY: its config names one.
        out: the last layer.
    """

    dense: str
    activation: str
    out: str


class _Layer(NamedTuple):
    weight: Tensor
    bias: Tensor


_FIRST = {
    "bert": Place("bert.pooler.dense", "tanh", "classifier"),
    "ernie": Place("ernie.pooler.dense", "tanh", "classifier"),
    "albert": Place("albert.pooler", "tanh", "classifier"),
    "roberta": Place("classifier.dense", "tanh", "classifier.out_proj"),
    "xlm-roberta": Place("classifier.dense", "tanh", "classifier.out_proj"),
    "camembert": Place("classifier.dense", "tanh", "classifier.out_proj"),
    "mpnet": Place("classifier.dense", "tanh", "classifier.out_proj"),
    "electra": Place("classifier.dense", "gelu", "classifier.out_proj"),
    "distilbert": Place("pre_classifier", "relu", "classifier"),
    "deberta": Place("pooler.dense", ANY, "classifier"),
    "deberta-v2": Place("pooler.dense", ANY, "classifier"),
}
# Decoders: `score` has no bias, but the norm before it may have one, which can take ours in.
_LAST = {"gpt2": "transformer.ln_f.bias"}
_NAMES = ("gelu", "relu", "tanh", "silu")  # activations that both call so


def check_fits(config: Config, model_type: str, hidden_size: int) -> None:
    """Check that transformers has a model that computes the same.

    Raises:
        FoldwiseError: it has none: why, and what to change in the config.
    """
    for wrong, key, why in (
        (not config.data.text, "data.text", "there is no text, so no backbone"),
        (config.task == "ordinal", "task", "no pipeline turns steps of an order into labels"),
        (config.model.fusion.name != "text", "model.fusion", "columns beside the text; use text"),
        (config.text.long != "truncate", "text.long", "only the start of a text; use truncate"),
        (config.model.layers is not None, "model.layers", "the last layer alone; leave it out"),
    ):
        if wrong:
            raise _refused(key, why)
    head = config.model.head
    if not isinstance(head, Head):
        raise _refused("model.head", "a part of your own isn't in transformers")
    if head.norm != "none":
        raise _refused("model.head.norm", "its heads have no norm there; use none")
    if model_type in _LAST:
        _check_last(config, head)
    elif model_type in _FIRST:
        _check_first(config, head, _FIRST[model_type], model_type, hidden_size)
    else:
        known = ", ".join([*_FIRST, *_LAST])
        raise _refused(
            "model.backbone", f"{model_type}'s own head computes otherwise; known are {known}"
        )


def head_weights(
    head: Any, model_type: str, settings: Any, hidden_size: int, norm: Tensor | None
) -> dict[str, Tensor]:
    """Return the weights of an architecture's own head, by name.

    Args:
        head: our fitted one, of one or two linear layers.
        model_type: of the backbone.
        settings: the backbone's config, in which an activation may have to be named.
        hidden_size: of the backbone.
        norm: the bias of the last norm, where that is to take in the head's; (hidden,).
    """
    linear = [layer for layer in head.layers if isinstance(layer, torch.nn.Linear)]
    last = linear[-1]
    if model_type in _LAST:
        assert norm is not None
        # W (b + d) = W b + c has a solution d for any c where W has more columns than rows.
        weight, bias = last.weight.double(), last.bias.double()
        shift = torch.linalg.lstsq(weight, bias.unsqueeze(1), driver="gelsd").solution[:, 0]
        return {"score.weight": last.weight, _LAST[model_type]: (norm.double() + shift).float()}
    place = _FIRST[model_type]
    if place.activation == ANY:
        settings.pooler_hidden_size = hidden_size
    if len(linear) == 2:
        dense, out = (_Layer(layer.weight, layer.bias) for layer in linear)
        if place.activation == ANY:
            settings.pooler_hidden_act = _name(head)
    else:
        scale = SMALL
        if place.activation == ANY:
            settings.pooler_hidden_act, scale = "linear", 1.0
        dense = _Layer(scale * torch.eye(hidden_size), torch.zeros(hidden_size))
        out = _Layer(last.weight / scale, last.bias)
    return {
        f"{place.dense}.weight": dense.weight,
        f"{place.dense}.bias": dense.bias,
        f"{place.out}.weight": out.weight,
        f"{place.out}.bias": out.bias,
    }


def _check_first(
    config: Config, head: Head, place: Place, model_type: str, hidden_size: int
) -> None:
    if config.model.pooling.name != "cls":
        why = f"{model_type}'s own head reads the first token only; train with pooling: cls"
        raise _refused("model.pooling", why)
    name, plain = head.activation.name, not head.activation.arguments
    fitting = place.activation if place.activation != ANY else "gelu"
    advice = f"use hidden: [{hidden_size}], activation: {fitting}"
    if not head.hidden:
        if place.activation in (ANY, "tanh"):
            return
        why = f"{model_type}'s own head has a hidden layer and {place.activation}; {advice}"
        raise _refused("model.head", why)
    same = name in _NAMES if place.activation == ANY else name == place.activation
    if head.hidden != [hidden_size] or not same or not plain:
        raise _refused("model.head", f"{model_type}'s own head is another; {advice}, or hidden: []")


def _check_last(config: Config, head: Head) -> None:
    if config.model.pooling.name != "last":
        why = "a decoder's own head reads the last token only; train with pooling: last"
        raise _refused("model.pooling", why)
    if head.hidden:
        raise _refused("model.head.hidden", "a decoder's own head is one layer; use hidden: []")


def _name(head: Any) -> str:
    known = {"GELU": "gelu", "ReLU": "relu", "Tanh": "tanh", "SiLU": "silu"}
    return next(
        known[type(layer).__name__] for layer in head.layers if type(layer).__name__ in known
    )


def _refused(key: str, why: str) -> FoldwiseError:
    return FoldwiseError(
        f"--to huggingface: {key}: AutoModelForSequenceClassification can't compute this: {why}; "
        "or export --to onnx, which carries any model"
    )
