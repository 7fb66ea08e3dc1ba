"""The process of one stage: `python -m bench.gpu.process '{...}'`, started by the runner."""

from __future__ import annotations

import faulthandler
import gc
import json
import sys
import time
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import torch

from bench.gpu import journal
from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.rehearsal import prepare
from bench.gpu.stage import Order

NO_NEW_CASE = 0.9  # of the time given: after this much of it no case is begun


def main(text: str) -> int:
    order = Order(**json.loads(text))
    start = time.time()
    # also where nobody is left to stop it; the traceback in the log says where it hung
    faulthandler.dump_traceback_later(max(0.1, order.deadline - start), exit=True)
    out, setting = Path(order.out), Setting(torch.device(order.device), Path(order.out))
    prepare(setting.device)
    module, _, function = order.cases.partition(":")
    cases: list[Case] = getattr(import_module(module), function)(setting, **order.given)
    journal.append(out, {"stage": order.stage, "what": journal.STARTED, "cases": len(cases), "first": order.first})
    for number, case in list(enumerate(cases))[order.first :]:
        if time.time() > start + NO_NEW_CASE * (order.deadline - start):
            break
        order.running.write_text(json.dumps({"case": number, **case.what}))
        begun = time.monotonic()
        rows = _rows(case, setting)
        seconds = round(time.monotonic() - begun, 2)
        is_lost = setting.on_gpu and not _answers(setting.device)
        for row in rows:
            if is_lost and row["verdict"] == journal.OK:
                row |= {"verdict": journal.FAILED, "why": "the device answered no more after it"}
            journal.append(out, {"stage": order.stage, "case": number, **case.what, **row, "seconds": seconds})
        if is_lost:
            sys.exit("the device is lost: another process goes on")
    return 0


def _rows(case: Case, setting: Setting) -> list[Row]:
    """What it found, or why it found nothing."""
    try:
        found = case.measure()
    except Skipped as reason:
        found = {"verdict": journal.SKIPPED, "why": str(reason)}
    except Exception as error:
        traceback.print_exc()  # to the log of the stage
        found = {"verdict": journal.FAILED, "why": _first_line(error)}
    gc.collect()
    if setting.on_gpu:
        with suppress(RuntimeError):  # of a lost device, which is asked next
            torch.cuda.empty_cache()
    rows = [found] if isinstance(found, dict) else found
    return [{**row, "verdict": row.get("verdict", journal.OK)} for row in rows]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def _answers(device: torch.device) -> bool:
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
