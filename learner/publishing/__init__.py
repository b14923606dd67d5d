"""From a behaviour policy's parameters to the ONNX model that samplers run."""
