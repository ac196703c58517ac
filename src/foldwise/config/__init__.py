"""The config: schema.py says what it may hold, load.py reads it, reference.py documents it.

Under them, grammar.py holds what the schema is written in, entries.py reads YAML, and check.py puts
what is wrong in plain words.
"""
