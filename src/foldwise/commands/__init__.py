"""One file a command: each orchestrates the rooms and prints."""
