"""What a model leaves as: a plain Transformers folder with its card, or one GGUF file."""
