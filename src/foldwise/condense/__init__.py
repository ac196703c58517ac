"""One model that stands for all folds of a run: refitted on their rows, or taught their answer."""
