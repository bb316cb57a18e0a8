"""What could keep this machine from working: looked at without changing anything, each with what to do."""

from come.doctor.check import Check as Check
from come.doctor.look import checks as checks
