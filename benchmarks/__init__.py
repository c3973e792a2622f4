"""What makes every figure in the documentation. Each is run by ``python -m benchmarks.NAME``."""
