"""The one error the command line turns into a message and exit status 2."""


class LiftError(ValueError):
    """Input that cannot be used. The message names what, where, and what to do about it."""
