"""Booted Debian machines in network namespaces of their own, for the tests and the demo."""
