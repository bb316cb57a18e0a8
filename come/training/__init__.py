"""Training what was pruned: one trainer, losses and hidden states to learn from. Ways of recovery are made of these."""
