"""Triton kernels, imported as `contrastive_ops.triton_kernels`: no policy and no allocation, that is the backend's."""
