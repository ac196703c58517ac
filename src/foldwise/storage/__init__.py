"""What lies in a store that fsspec knows: tables, run folders, outputs."""
