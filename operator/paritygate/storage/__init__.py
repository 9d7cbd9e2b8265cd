"""Artefacts by content, and receipts of what made them, in folders of one machine."""
