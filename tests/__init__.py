"""The tests: unit, contract, typing, simulation, integration, e2e and faults, in the order in which they run."""
