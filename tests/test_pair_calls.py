"""The table of public calls is complete, so that what is asked of every public function is asked of a new one too."""

import re

from pair_calls import CALLS, NO_GRADIENT, RELATIONS, WHOLE_STEPS

import contrastive_ops
from contrastive_ops import distributed


def functions(module):
    return {name for name in module.__all__ if name[0].islower()}


def test_every_public_function_has_a_call():
    called = {re.split("[, ]", name)[0] for name in (*CALLS, *NO_GRADIENT)} | WHOLE_STEPS | RELATIONS
    expected = functions(contrastive_ops) | {f"distributed.{name}" for name in functions(distributed)}
    assert called == expected
