"""Runs in containers, over the API of Docker or of Podman."""
