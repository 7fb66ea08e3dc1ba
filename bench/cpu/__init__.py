"""Parts of `python -m bench` and `pytest bench`: time and memory on this machine's processor."""
