"""The one error that a person is meant to read.

Everything else that is raised is a bug in Palmier and shows its traceback.
"""


class Refusal(Exception):
    """Bad input: one line that says what is wrong, where, and how to mend it.

    The command line prints it and exits with 2; the server answers it as HTTP 400.
    """


class Unable(Refusal):
    """The input is right and this machine can't: a full disk, a store that another program holds. HTTP 503."""
