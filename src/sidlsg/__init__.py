"""sidlsg: one-step text-to-image generators by Score identity Distillation with Long-Short Guidance."""

__version__ = "0.1.0"
