"""Plays the production balancer against simulated servers, in virtual time: `buildscripts/simulate`.

What decides is the code that users run: `Balancer` with its pickers, statistics and outlier detection, and `Retrying`.
What is simulated is the world around it: time, randomness, the network, the servers and the registry. So a policy can
be judged with thousands of endpoints and clients, in faults that are awkward to make, and a seed repeats it exactly.

`production` is the only module that knows how the balancer is made; `clock`, `server`, `client` and `cluster` are the
world; `scenarios` says what happens in it; `measure` what is looked at; `charts` and `page` draw it.
"""
