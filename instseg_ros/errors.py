"""The one exception for bad input: its text is the whole message a user sees."""

import re
from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used.

    The message is one sentence that names the offending value and the remedy. The command line prints it and exits
    with status 2; nodes log it throttled and count it. It stays one line whatever it quotes: names in a broken file may hold anything.

    Args:
        log: lines that follow it, each on its own: the last words of a node.
    """

    def __init__(self, message: str, *, log: Iterable[str] = ()) -> None:
        super().__init__("\n  ".join(map(_one_line, (message, *log))))


def _one_line(text: str) -> str:
    text = re.sub(r"\s*[\n\r\v\f\x85\u2028\u2029]\s*", " ", text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def explain(error: Exception) -> str:
    """What to tell a user of any error: an InputError's own words, and of others what they are as well."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
