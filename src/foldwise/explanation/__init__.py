"""Why a run answers a row as it does: the words, columns and members that drove it."""
