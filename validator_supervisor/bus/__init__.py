"""The D-Bus API."""
