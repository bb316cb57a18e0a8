"""Does a pruned model run elsewhere: what an engine writes greedily, token by token beside what the model says here."""

from come.engines.compare import Checked, Compared, check
from come.engines.run import ENGINES, Written

__all__ = ["ENGINES", "Checked", "Compared", "Written", "check"]
