"""Parts of `python -m bench.gpu_day` and `python -m bench.gpu_check`: right and fast on the GPU that is here."""
