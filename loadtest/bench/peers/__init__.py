"""Servers that somebody would pick instead, each in an environment of its own."""
