"""Measuring a model: layers run singly over tokens, hidden states kept between passes, statistics of a pass."""
