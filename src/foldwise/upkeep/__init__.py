"""What becomes of runs on a disk: where each stands, and what of it can go."""
