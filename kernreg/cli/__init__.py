"""The command line ``kernreg``."""

from kernreg.cli.app import app, main

__all__ = ["app", "main"]
