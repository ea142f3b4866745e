"""Agents through which orders pass: the pre-trade gate, later execution."""
