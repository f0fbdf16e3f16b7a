"""The one exception that users are meant to read."""


class UsageError(Exception):
    """Something in the input, the configuration or the call is wrong.

    The message names the thing (file, table, column, row or parameter) and the way out.
    """
