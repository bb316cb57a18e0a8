"""The playground's parts."""
