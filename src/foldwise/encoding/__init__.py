"""Rows to token ids, token ids to batches."""
