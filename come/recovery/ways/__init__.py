"""The ways to recover, one file each: whatever is registered in a file here is known everywhere.

A new way is a new file: its options, ``@register(...)`` with its words, its place in the order and its work, and below
that a function that takes a ``RecoverTask`` and the options and gives the weights that it changes (``Recovered``).
"""
