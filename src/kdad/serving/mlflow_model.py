"""The code that MLflow runs to load a logged detector: copied into the model, where ``kdad`` may not be installed."""

import os
import sys
from importlib.util import find_spec
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PythonModel


class LoggedDetector(PythonModel):
    """A detector that takes a table with the column ``image`` and gives ``score``, ``threshold`` and ``decision``.

    ``params={"map": True}`` adds the column ``map``: a PNG as base64 text. ``params={"category": NAME}`` decides by the
    threshold of one of the categories that the detector has learnt. ``params={"group": True}`` says that all images are
    of one part, and adds ``group_score`` and ``group_decision``.
    """

    def load_context(self, context: Any) -> None:
        """Open the detector, by the package that is installed, or by the code that was logged with it."""
        if find_spec("kdad") is None:
            sys.path.append(context.artifacts["code"])
        from kdad.serving.table import open_logged

        self._predictor = open_logged(context.artifacts["detector"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict each row; what cannot be predicted is an error that names the row."""
        from kdad.errors import InputError
        from kdad.serving.table import predict_table

        wanted = params or {}
        with_map, group = bool(wanted.get("map", False)), bool(wanted.get("group", False))
        asked = {"category": wanted.get("category"), "group": group}
        if "_MLFLOW_IS_IN_SERVING_ENVIRONMENT" not in os.environ:
            return predict_table(self._predictor, model_input, with_map, **asked)
        try:
            # In MLflow's own server a text is base64: a path would be one of the server's files.
            return predict_table(self._predictor, model_input, with_map, False, **asked)
        except InputError as error:  # anything else is answered with a traceback
            raise MlflowException(str(error), BAD_REQUEST) from error


set_model(LoggedDetector())
