"""Starting the shop as processes, and keeping them alive: what `shop up` and `shop serve --workers` are made of.

Every program runs as a process of its own, tied to its parent by the kernel, started again when it dies, and drained
when its parent is told to stop. What the shop's programs are, `commands.py`, `embedded.py` and `plan.py` alone know.
"""
