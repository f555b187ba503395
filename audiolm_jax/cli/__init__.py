"""The `audiolm` command."""

from audiolm_jax.cli.command_line import main

__all__ = ["main"]
