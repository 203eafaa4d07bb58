"""From the stores' statistics to plan.json."""

from pipeline.planning.fingerprint import Fingerprint, fingerprint
from pipeline.planning.plan import STAGE, make_plan, plan
from pipeline.planning.settings import PlanSettings

__all__ = ["STAGE", "Fingerprint", "PlanSettings", "fingerprint", "make_plan", "plan"]
