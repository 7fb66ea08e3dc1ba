"""`import contrastive_ops` costs nothing beyond `import torch`, initialises no device and needs no native build."""

import subprocess
import sys
import textwrap


def run(script):
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


def test_nothing_but_the_package_and_the_standard_library_is_imported():
    imported = run("""
        import sys, torch
        before = set(sys.modules)
        import contrastive_ops
        print(*sorted(set(sys.modules) - before))
    """)
    assert "contrastive_ops.ops.statistics" in imported
    tops = {name.partition(".")[0] for name in imported}
    assert tops - {"contrastive_ops"} <= sys.stdlib_module_names | {"torch"}
    heavy = ("torch._dynamo", "torch._inductor", "torch.distributed", "torch.fx.experimental", "torch.testing")
    assert [name for name in imported if name.startswith(heavy)] == []
    assert "contrastive_ops.testing" not in imported


def test_no_device_is_initialised_and_no_global_is_changed():
    changed = run("""
        import torch
        def state():
            return (torch.get_num_threads(), torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled(),
                    torch.is_grad_enabled(), torch.initial_seed(), torch.get_float32_matmul_precision())
        before = state()
        import contrastive_ops
        print(torch.cuda.is_initialized(), state() == before)
    """)
    assert changed == ["False", "True"]


def test_without_the_native_build():
    """The default falls to the next backend; naming the missing one is an error that says why."""
    found = run("""
        import sys
        sys.modules["contrastive_ops._native"] = None  # importing it now raises ImportError
        import torch, contrastive_ops
        x = torch.eye(3)
        loss = contrastive_ops.clip_loss(x, x.clone(), 2.0)
        print(torch.equal(loss, contrastive_ops.clip_loss(x, x.clone(), 2.0, backend="eager")))
        try:
            contrastive_ops.clip_loss(x, x.clone(), 2.0, backend="cpu")
        except ValueError as error:
            print(str(error).replace(" ", "_"))
    """)
    assert found[0] == "True"
    assert found[1].startswith("backend_'cpu'_cannot_solve_this_problem:_the_native_extension_is_not_built")
