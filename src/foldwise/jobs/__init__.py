"""Many folds at once: each share of them in a process of its own."""
