"""Learns: one shared model of many tasks; knows torch and numpy, nothing of Redis, the command line, the clock, the network."""
