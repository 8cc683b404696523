"""The simulated payment provider: cards that pay or refuse by rules, a ledger of every cent, and faults on demand."""
