"""The config: schema.py says what it may hold, load.py reads it, reference.py documents it.

The schema's sections lie in rows.py, model.py, tabular.py and training.py. Under them, grammar.py
holds what the schema is written in, yaml_reader.py reads YAML, and check.py puts what is wrong in
plain words.
"""
