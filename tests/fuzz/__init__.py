"""Hostile input: whatever a stranger may send, to everything that reads it, and judges of what comes back."""
