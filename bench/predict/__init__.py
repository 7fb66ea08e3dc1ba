"""Parts of `python -m bench.roofline`: what a GPU would take, from datasheets; nothing here runs a kernel."""
