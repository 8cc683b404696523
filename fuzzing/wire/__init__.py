"""Conversations with a server in a process of its own, and what can be seen of that process meanwhile."""
