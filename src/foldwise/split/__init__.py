"""Rows to holdout, folds and inner rows."""
