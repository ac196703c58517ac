"""The table: files, cells, roles of columns, duplicates, subsets, a first config."""
