"""A store, or all of a run: is it whole?"""

from pipeline.verify.findings import Finding, Level
from pipeline.verify.verify import Verified, verify

__all__ = ["Finding", "Level", "Verified", "verify"]
