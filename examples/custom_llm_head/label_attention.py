"""A pooling and a head of one's own on a language model: every class reads the text by itself.

Label-wise attention (Mullenbach et al. 2018, "Explainable Prediction of Medical Codes from Clinical
Text"): the pooling gives one vector a class, the head scores each with that class's own weights.
Both are ordinary modules; folds, loss, optimizer and files don't know them.
"""

import torch
from torch import nn


class LabelAttention(nn.Module):
    """For each class, the mean of the tokens that its learned query attends to."""

    def __init__(self, hidden_size, n_classes):
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(n_classes, hidden_size))  # starts as the mean

    def forward(self, hidden_states, attention_mask):
        """Pool (B, L, H) with mask (B, L) into (B, n_classes * H)."""
        scores = hidden_states @ self.queries.T / hidden_states.shape[-1] ** 0.5  # (B, L, C)
        scores = scores.masked_fill(attention_mask.unsqueeze(-1) == 0, -1e4)
        return (scores.softmax(dim=1).transpose(1, 2) @ hidden_states).flatten(1)


class LabelWiseHead(nn.Module):
    """One weight vector a class, applied to the vector that the class has read."""

    def __init__(self, hidden_size, n_classes, dropout=0.1):
        super().__init__()
        # `hidden_size` is what the pooling returns: the vectors of all classes, end to end.
        self.shape = (n_classes, hidden_size // n_classes)
        self.dropout = nn.Dropout(dropout)
        self.weight = nn.Parameter(torch.randn(self.shape) * 0.02)
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, pooled):
        """Map (B, n_classes * H) to logits (B, n_classes)."""
        return (self.dropout(pooled.unflatten(1, self.shape)) * self.weight).sum(dim=2) + self.bias
