"""``segflow check``: what ingest would refuse, and what a person should look at."""

from pipeline.ingest.checking.dataset import check
from pipeline.ingest.checking.findings import Finding
from pipeline.ingest.checking.outcome import Checked

__all__ = ["Checked", "Finding", "check"]
