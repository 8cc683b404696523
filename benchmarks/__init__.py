"""What the libraries cost and what they buy, in numbers that mean the same on any machine: `buildscripts/bench`.

A benchmark compares two things in one run, in turns so short that whatever else the machine does hits both alike, and
reports ratios with their spread. Absolute times depend on the machine, and are given for orientation.
"""
