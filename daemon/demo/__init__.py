"""The demonstration: real data into a real daemon, killed half-way, and tables of what became of every row.

`python -m daemon.demo` (or `mtld demo`, `make demo`) runs it; it uses nothing but what users have.
"""
