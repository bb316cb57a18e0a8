"""Pruning a model: the methods, and the registry in which the command line, the page and the comparison find them."""
