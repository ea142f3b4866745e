"""Whom to ask next: a page in shared memory that the hub writes and everybody on its machine reads."""
