"""Names in the config and the classes they stand for; the user's own files."""
