"""Models that serve: a chosen front member as a folder for transformers or ONNX Runtime, tested and timed."""
