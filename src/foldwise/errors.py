"""The one exception that users cause: its message says what is wrong, where, and what to do."""


class FoldwiseError(Exception):
    """A problem with the input, not with Foldwise: printed without traceback, exit code 2.

    Args:
        message: what is wrong, where (file, row, column or YAML line), and what to do about it.
    """


class RunInterrupted(Exception):
    """A run stopped before its end by something that is not the input's fault: exit code 1.

    Args:
        message: what happened and in which fold and step; the same command continues the run.
    """
