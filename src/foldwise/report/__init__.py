"""Pictures and tables of what a run has come to."""
