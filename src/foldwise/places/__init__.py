"""Calls of foldwise at work elsewhere: processes of this machine, or what Ray starts on others."""
