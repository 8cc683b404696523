"""Starting the shop as processes, and keeping them alive: what `shop up` and `shop serve --workers` are made of.

Every program runs as a process of its own, tied to its parent by the kernel, started again when it dies, and drained
when its parent is told to stop. Nothing here knows what a program does, except `plan.py`, which lists the shop's.
"""
