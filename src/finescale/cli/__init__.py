"""The command line."""

from finescale.cli.commands import main

__all__ = ["main"]
