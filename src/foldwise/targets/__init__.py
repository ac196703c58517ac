"""The kinds of target beside multiclass: sets of labels, ordered labels, numbers."""
