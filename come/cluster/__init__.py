"""Runs on a Ray cluster. Ray is optional, and imported when a run goes there; importing this loads no model code.

``come.cluster.layers.layers_on_ray`` gives the layers of a recovery to Ray in a script of one's own.
"""

from come.cluster.connect import check_reachable
from come.cluster.drive import execute_all_on, execute_on

__all__ = ["check_reachable", "execute_all_on", "execute_on"]
