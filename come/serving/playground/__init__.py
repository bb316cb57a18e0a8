"""An original and its pruned models, saying something side by side or looking along one text."""
