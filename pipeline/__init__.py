"""segflow's work: plain functions over arrays and stores. Knows no Prefect."""

__version__ = "0.1.0"
