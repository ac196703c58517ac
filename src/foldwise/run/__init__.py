"""The run on disk: where files lie, how they are written, checkpoints."""
