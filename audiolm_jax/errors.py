"""The one error that a user's mistake raises, and how an error of a library goes into its line."""


class UserError(ValueError):
    """A mistake in the input, the flags or the gin file, told in one line that says what to change.

    The command line prints the line and exits with code 2; it never shows a stack trace for it. What names and values
    from a file make longer than a person reads, keeps its beginning, where the place is, and its end, where the remedy
    is.
    """

    def __init__(self, *args):
        super().__init__(*(_cut(each) if isinstance(each, str) else each for each in args))


_LONGEST_LINE, _LONGEST_VALUE = 300, 80
# The longest lines of our own list all macros, or all experiments.
_KEPT_BEGINNING, _KEPT_END = 1600, 300


def _cut(message: str) -> str:
    if len(message) <= _KEPT_BEGINNING + _KEPT_END:
        return message
    return f"{message[:_KEPT_BEGINNING]} ... {message[-_KEPT_END:]}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something; the name of its type if none does.

    Libraries put into it what they found in a file, which may be a megabyte: of a long line only the beginning is kept.
    """
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} ..."


def brief(text: str) -> str:
    """A name from a file as a line of an error says it: as one line, of a long one only the beginning."""
    line = " ".join(text[: _LONGEST_VALUE + 1].split())
    return line if len(text) <= _LONGEST_VALUE else f"{line[:_LONGEST_VALUE].rstrip()} ..."


def shown(value: object) -> str:
    """A value from a file as a line of an error shows it; of a long one only the beginning."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or lists in lists in lists
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} ..."
