"""The one exception that users see."""


class InputError(ValueError):
    """A mistake in what the user gave; its message is one sentence that says what to do."""


class BelongsElsewhere(InputError):
    """What was read is whole, and made for something else."""
