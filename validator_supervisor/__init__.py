"""Keeps proof-of-stake validators running on one host, with systemd."""

__version__ = "0.1.0"
