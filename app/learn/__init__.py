"""The lesson: eight small steps on the shipped example, one file each."""
