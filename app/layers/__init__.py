"""The layers page's parts."""
