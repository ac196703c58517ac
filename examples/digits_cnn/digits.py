"""A task on images: scikit-learn's 1,797 handwritten digits of 8 x 8 pixels through a small CNN."""

import polars as pl
import torch
from sklearn.datasets import load_digits
from torch import nn

from foldwise.tasks.multiclass import Multiclass


class SmallCnn(nn.Module):
    """Two convolutions, a mean over what is left of the image, and a linear layer."""

    def __init__(self, n_classes, channels=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # 8 x 8 -> 4 x 4
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # -> 2 x 2
            nn.Flatten(),
        )
        self.head = nn.Linear(8 * channels, n_classes)

    def forward(self, images):
        """Map images (B, 1, 8, 8) to logits (B, n_classes)."""
        return self.head(self.features(images))


class Digits(Multiclass):
    """Which of ten digits an image shows."""

    def rows(self):
        """Return the images as a column of 64 numbers each, and their labels."""
        pixels, digits = load_digits(return_X_y=True)
        column = pl.Series(pixels.astype("float32"), dtype=pl.Array(pl.Float32, 64))
        return pl.DataFrame({"pixels": column, "digit": digits.astype(str)})

    def dataset(self, frame):
        """Return (image, class id) by position; pixels from 0 to 1."""
        images = torch.from_numpy(frame["pixels"].to_numpy() / 16).reshape(-1, 1, 8, 8)
        return list(zip(images, self.target_ids(frame), strict=True))

    def collate(self, rows):
        """Stack the images of a batch; a place for augmentation, which is seeded by step."""
        images, targets = zip(*rows, strict=True)
        return {"images": torch.stack(images), "target": torch.tensor(targets)}

    def build_model(self):
        """Build a fresh CNN."""
        return SmallCnn(len(self.classes))
