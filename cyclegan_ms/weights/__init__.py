"""Generators in files: our own, PyTorch's, the tutorial's, MindIR and ONNX."""
