"""segflow's work: plain functions over arrays and stores. Knows no Prefect."""

import ctypes
import os

__version__ = "0.1.0"

# Before torch is imported, which looks once: large tensors lie on huge pages. Each comes as empty
# pages whose faults took a fifth of a prediction's time; memory that is kept instead would save as
# much and more, and hold half as much again.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# All threads' memory in one heap, and what is large outside of it, where the C library is glibc:
# threads that read, predict and write in turn would each keep the most they ever held, a third of
# a prediction's peak. Training says otherwise: its steps want the same memory again.
M_ARENA_MAX, M_MMAP_THRESHOLD = -8, -3
LARGE = 8 * 2**20
if hasattr(ctypes.CDLL(None), "mallopt") and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
