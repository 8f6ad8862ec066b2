"""ONNX files in: `capture_onnx` reads one and gives the graph at the nn level."""

from .capture import capture_onnx, import_graph

__all__ = ["capture_onnx", "import_graph"]
