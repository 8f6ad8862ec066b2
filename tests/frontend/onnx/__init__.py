"""The ONNX front end, held against onnxruntime: one small graph an operator variant, then whole models."""
