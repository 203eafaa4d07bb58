"""Volume store + checkpoint → mask store."""

from pipeline.predict.arrangement import CaseToPredict
from pipeline.predict.outlook import Outlook, foresee
from pipeline.predict.settings import PredictSettings
from pipeline.predict.stage import PROGRESS, STAGE, Predicted, predict, predict_cases

__all__ = [
    "PROGRESS",
    "STAGE",
    "CaseToPredict",
    "Outlook",
    "PredictSettings",
    "Predicted",
    "foresee",
    "predict",
    "predict_cases",
]
