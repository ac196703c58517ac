"""What the command line offers: one file a group of commands; options.py what several take."""
