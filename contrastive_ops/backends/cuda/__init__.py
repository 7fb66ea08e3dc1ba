"""CUDA C++ kernels on NVIDIA GPUs (`csrc/cuda`); in tests the same kernels on a CPU emulator."""

from contrastive_ops.backends.cuda.backend import CudaBackend

__all__ = ["CudaBackend"]
