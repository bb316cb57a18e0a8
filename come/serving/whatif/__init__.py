"""What if: how good an edited model would be, answered by running only what the edits changed."""
