"""Decisions: probabilities or numbers in; calibrated ones, labels, costs, sets, intervals out."""
