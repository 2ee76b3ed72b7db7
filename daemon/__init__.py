"""Runs: knows Redis, processes and operators, and the engine by its facade."""
