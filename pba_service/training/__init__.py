"""Training: traces to windows, Keras networks, and the ONNX files that the server runs.

TensorFlow is imported inside the functions that need it, so that importing this package costs nothing.
"""

from pba_service.training.options import MODEL_NAMES, TrainOptions, train

__all__ = ["MODEL_NAMES", "TrainOptions", "train"]
