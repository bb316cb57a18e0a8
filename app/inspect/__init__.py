"""The inspect page's parts."""
