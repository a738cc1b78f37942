"""The version, in one place: of the package's metadata, ``finescale --version``, and the history of what is written."""

__version__ = "0.2.0"
