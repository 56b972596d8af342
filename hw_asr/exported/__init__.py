"""Export to ONNX, and recognition with exported models, which needs onnxruntime instead of torch."""
