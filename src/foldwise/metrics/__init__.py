"""Metrics: one number of whole folds."""
