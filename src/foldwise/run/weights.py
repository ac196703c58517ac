"""The weights of a model: which of them a checkpoint holds, how many learn, what they take.

In: any `nn.Module`. A checkpoint holds all its tensors, but of a submodule that has `saved_names`
(an adapted backbone) only those: the others never change and are loaded again from where they came.
"""

from __future__ import annotations

from torch import Tensor, nn

from foldwise.errors import FoldwiseError


def saved_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that a checkpoint of a model holds, by name."""
    tensors = model.state_dict()
    for prefix, module in model.named_modules():
        names = getattr(module, "saved_names", None)
        if names is not None:
            above = f"{prefix}." if prefix else ""
            tensors = {
                name: tensor
                for name, tensor in tensors.items()
                if not name.startswith(above) or name.removeprefix(above) in names
            }
    return tensors


def load_weights(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put a checkpoint's tensors into a model.

    Raises:
        FoldwiseError: they aren't the ones that a checkpoint of this model holds.
    """
    expected = saved_weights(model)
    if differing := sorted(expected.keys() ^ tensors.keys()):
        name = differing[0]
        raise FoldwiseError(
            f"the checkpoint doesn't fit the model: {len(differing)} tensors differ, such as "
            f"{name}, which only the {'model' if name in expected else 'checkpoint'} has"
        )
    for name, tensor in saved_weights(model).items():
        if tensors[name].shape != tensor.shape:
            raise FoldwiseError(
                f"the checkpoint doesn't fit the model: {name} is {tuple(tensors[name].shape)} in "
                f"the checkpoint and {tuple(tensor.shape)} in the model"
            )
    model.load_state_dict(tensors, strict=False)  # what is strict stands above
