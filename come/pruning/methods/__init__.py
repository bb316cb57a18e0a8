"""The methods side by side, one file each. A file here is found by itself: docs/adding-a-method.md."""
