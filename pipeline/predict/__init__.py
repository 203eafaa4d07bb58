"""Volume store + checkpoint → mask store."""

from pipeline.predict.pieces import CaseToPredict
from pipeline.predict.settings import PredictSettings
from pipeline.predict.stage import STAGE, Predicted, predict, predict_cases

__all__ = ["STAGE", "CaseToPredict", "PredictSettings", "Predicted", "predict", "predict_cases"]
