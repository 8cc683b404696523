"""Why a shop cannot be started. Every message is a line for the person who tried, and says what to do."""

from __future__ import annotations


class LaunchError(RuntimeError):
    """What was asked for cannot be started, or did not become ready."""


class DirectoryInUse(LaunchError):
    """Another process holds the data directory."""


class MissingBinary(LaunchError):
    """A program that is needed is not installed."""


class NotReady(LaunchError):
    """Something that was started does not answer within its deadline."""
