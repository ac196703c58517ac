"""Whether new rows are like those that a run was made from."""
