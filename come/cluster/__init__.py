"""Runs on a Ray cluster. Ray is optional, and imported when a run goes there."""

from come.cluster.connect import check_reachable
from come.cluster.drive import execute_all_on, execute_on
from come.cluster.layers import layers_on_ray

__all__ = ["check_reachable", "execute_all_on", "execute_on", "layers_on_ray"]
