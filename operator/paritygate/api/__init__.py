"""Pydantic models of the ModelMigration resource, of its status, and of what stages hand to each other.

Everything that crosses a process or machine boundary has its model here. This package imports nothing of ours.
"""
