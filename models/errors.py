"""Errors that reach a person: what was expected, what was found, whether trying again can help."""


class AffectlineError(Exception):
    """Base of all errors this service raises on purpose."""

    retryable = False
    """Whether the same call can succeed later without a change by the caller."""


class InvalidInputError(AffectlineError):
    """Input from outside that cannot be used: a file, a message, a configuration."""


class ModelMissingError(AffectlineError):
    """A model's files are not in the store; the message names the command that fetches them."""


class ModelCorruptError(AffectlineError):
    """A model's files differ from what was verified when they were stored."""


class FetchError(AffectlineError):
    """No source of a weight file could be read."""

    retryable = True


class StorageError(AffectlineError):
    """The disk refused: no space, no permission."""

    retryable = True


class CapacityError(AffectlineError):
    """More work than this machine takes at once."""

    retryable = True
