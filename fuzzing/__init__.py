"""Input that nobody means well with, for the front door and for every gRPC server: `buildscripts/fuzz`.

A fuzzer makes inputs from a seed, right ones first and then wrong ones of them, plays them for some minutes, and ends
with a table and its promises, kept or missed. What it finds is made as small as it can, and kept as a file below
`tests/fuzz`, which a test replays from then on.
"""
