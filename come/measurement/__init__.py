"""Measuring a model: running its layers over tokens, what one pass keeps of them, and what that says."""
