"""From new samples of many links to their predictions at a subscriber, beside bare ONNX Runtime."""
