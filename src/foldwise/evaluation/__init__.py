"""Scores: metrics, intervals, baselines, validation, summary."""
