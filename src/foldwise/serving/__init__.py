"""A run behind HTTP: rows as JSON in, labels out, by the column names of its table."""
