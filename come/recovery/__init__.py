"""Recovery: giving a pruned model back what its size allows (``recover``), by one or several of the ``ways``."""
