"""The one error that a user's mistake raises."""


class UserError(ValueError):
    """A mistake in the input, the flags or the gin file, told in one line that says what to change.

    The command line prints the line and exits with code 2; it never shows a stack trace for it.
    """
