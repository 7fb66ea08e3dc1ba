"""Triton kernels on NVIDIA and AMD GPUs; with TRITON_INTERPRET=1, for tests, on CPU tensors."""

from contrastive_ops.backends.triton.backend import TritonBackend

__all__ = ["TritonBackend"]
