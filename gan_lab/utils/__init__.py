"""Helpers without a subject: whole files, error messages, terminals, hosts."""
