"""The one error that a person is meant to read.

Everything else that is raised is a bug in Palmier and shows its traceback.
"""


class Refusal(Exception):
    """Bad input: one line that says what is wrong, where, and how to mend it.

    The command line prints it and exits with 2; the server answers it as HTTP 400, with ``param``, the field of the
    request that is wrong, and ``code``, OpenAI's word for it, where there is one: programs read those.
    """

    def __init__(self, sentence: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(sentence)
        self.param, self.code = param, code


TOO_LONG = "context_length_exceeded"
"""OpenAI's code of a prompt that the context does not hold."""


class Unable(Refusal):
    """The input is right and this machine can't: a full disk, a store that another program holds. HTTP 503."""
