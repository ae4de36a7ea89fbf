"""The report of a baseline as one HTML page."""

from kernreg.report.render import render

__all__ = ["render"]
