"""The look at a table before training."""
