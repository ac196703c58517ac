"""From the config to rows, folds and a task: everything before the first fold."""
