"""The version, where both the build and the package read it."""

__version__ = "0.1.0"
VERSION_LINE = f"pywsgiserve (version {__version__})"
