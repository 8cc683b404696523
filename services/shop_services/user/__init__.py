"""The user service: accounts, their profiles, and the check of their passwords."""
