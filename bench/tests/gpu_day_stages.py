"""Stages for test_gpu_day.py: right, wrong, and in every kind of trouble."""

import os
import time

import torch

from bench.gpu.case import Case, Skipped


def trouble(setting, kinds):
    return [Case({"what": kind, "number": number}, TROUBLE[kind]) for number, kind in enumerate(kinds)]


def right():
    return {"pid": os.getpid(), "root": float(torch.tensor(2.0, dtype=torch.float64).sqrt())}


def wrong():
    return {"error_x": 0.5, "bound_x": 0.1, "verdict": "WRONG"}


def raises():
    raise ValueError("of this case alone")


def skips():
    raise Skipped("nothing to measure")


def dies():
    print("last words", flush=True)
    os._exit(3)


def hangs():
    time.sleep(600)


TROUBLE = {function.__name__: function for function in (right, wrong, raises, skips, dies, hangs)}
