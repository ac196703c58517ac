"""Data to try Foldwise on."""
