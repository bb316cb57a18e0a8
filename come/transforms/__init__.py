"""What the steps of a plan do to weights: from a model to the next one, and from a plan to the pruned model."""
