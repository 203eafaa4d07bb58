"""segflow's work: plain functions over arrays and stores. Knows no Prefect."""

import os

__version__ = "0.1.0"

# Before torch is imported, which looks once: large tensors lie on huge pages. Each comes as empty
# pages whose faults took a fifth of a prediction's time; memory that is kept instead would save as
# much and more, and hold half as much again.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
