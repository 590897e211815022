"""Models under ONNX Runtime."""
