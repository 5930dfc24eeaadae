"""Figures that anyone can measure again: each module is a command with --help and --json."""
