"""The one exception for bad input: its text is the whole message a user sees."""


class InputError(ValueError):
    """Input that cannot be used.

    The message is one sentence that names the offending value and the remedy. The command line prints it and exits
    with status 2; nodes log it throttled and count it.
    """


def explain(error: Exception) -> str:
    """What to tell a user of any error: an InputError's own words, and of others what they are as well."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
