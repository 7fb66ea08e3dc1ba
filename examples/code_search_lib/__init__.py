"""Parts of `examples/code_search.py`, one idea per file."""
