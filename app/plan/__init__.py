"""The plan page's parts."""
