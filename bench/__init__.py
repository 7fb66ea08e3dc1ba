"""Speed and memory of the losses beside what a trainer would use instead; `python -m bench --help`, `pytest bench`."""
