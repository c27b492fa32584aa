"""Figures, and how they are shown."""
