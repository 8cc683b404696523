"""What the libraries promise about failures, tried on real processes under load: `buildscripts/faults`.

A scenario starts an etcd and three servers, calls them at a steady rate through one `Channel`, breaks things all the
while, and ends with a table and its promises, kept or missed. What is broken, and when, follows from a seed; what the
machine makes of it does not.
"""
