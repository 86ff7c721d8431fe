"""The one exception a user can cause."""


class UserError(Exception):
    """A mistake in the input or the environment.

    The command line prints its text as one line and exits with code 2; a traceback is for our own bugs.
    The text names the file, key or rank concerned.
    """
