"""The ways to recover, one file each; a way there may be followed by another."""
