"""Real pretrained models from packages, compiled, run privately, their answers compared: `python -m benchmarks.real`."""
