"""New rows, chunk by chunk: a table of any size and what labels rows in, a file of labels out."""
