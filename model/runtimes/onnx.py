"""ONNX Runtime on one CPU thread. It starts in a third of a second and needs no torch."""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.runtimes.base import Model, ModelError, Runtime


class OnnxRuntime(Runtime):
    """Runs ``model.onnx`` (``fp32``) and ``model-int8.onnx`` (``int8``)."""

    def setup(self, model: Model, variant: str, device: str = "cpu") -> None:
        """Load the graph with one thread: several processes of one thread are faster than one process of several."""
        if device != "cpu":
            raise ModelError(f"The onnx runtime runs on cpu only, not on {device}; use runtime timm for a GPU.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.enable_mem_pattern = False  # 6 MB less, at the same speed
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning would take CPU from others
        file = model.checked_file(model.variant("onnx", variant))
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def predict(self, batch: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Classify one picture after another: on a CPU a batch is no faster (measured) and takes more memory."""
        return [self._session.run(None, {self._input: picture[np.newaxis]})[0][0] for picture in batch]
