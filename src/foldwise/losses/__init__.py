"""Losses: one value a row."""
