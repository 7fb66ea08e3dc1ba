"""Triton kernels, imported as `contrastive_ops.triton_kernels`: no policy and no allocation, that is the backend's.

`relation`, `tile` and `score` (with `volume`) are what the kernels share; `statistics_fwd`, `gradient_bwd` (one program
owns rows) and `macro_bwd` (blocks of dS in a workspace) hold the kernels. Importing this package imports triton.
"""
