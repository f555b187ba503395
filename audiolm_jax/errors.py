"""The one error that a user's mistake raises, and how an error of a library goes into its line."""


class UserError(ValueError):
    """A mistake in the input, the flags or the gin file, told in one line that says what to change.

    The command line prints the line and exits with code 2; it never shows a stack trace for it.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something; the name of its type if none does."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
