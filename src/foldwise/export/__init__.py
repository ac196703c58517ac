"""A fold model of a run as a folder that works without Foldwise."""
