"""The one exception for bad input: its text is the whole message a user sees."""


class InputError(ValueError):
    """Input that cannot be used.

    The message is one sentence that names the offending value and the remedy. The command line prints it and exits
    with status 2; nodes log it throttled and count it.
    """
