"""The ways to grow a model: one file each."""
