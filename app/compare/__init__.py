"""The compare page's parts."""
