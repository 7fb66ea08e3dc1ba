"""Native C++ kernels for CPU tensors: policy, memory and addresses here, arithmetic in `csrc/cpu`."""

from contrastive_ops.backends.cpu.backend import CpuBackend
from contrastive_ops.backends.cpu.native import ISA_VARIABLE, ISAS, instruction_set, release_workspace, wished_isa

__all__ = ["ISAS", "ISA_VARIABLE", "CpuBackend", "instruction_set", "release_workspace", "wished_isa"]
