"""Triton kernels, imported as `contrastive_ops.triton_kernels`: no policy and no allocation, that is the backend's.

`tile`, `relation`, `score/` and `reduction/` are what the kernels share; `reduce_fwd`, `gradient_bwd` (one program owns
rows) and `macro_bwd` (blocks of weights in a workspace) hold the kernels. Importing this package imports triton.
"""
