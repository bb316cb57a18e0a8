"""A report that one can hand in: a run, or several, as one HTML file."""

from come.report.html.page import document, write

__all__ = ["document", "write"]
