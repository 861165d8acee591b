"""Sign in with Spatio, for Django."""

__version__ = "0.1.0"
