"""The run page's parts."""
