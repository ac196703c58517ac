"""The config: schema.py says what it may hold, load.py reads it, reference.py documents it."""
