"""The fixtures that several folders' tests share."""

from unit.distil.student.checkpoints import generator, released, teacher

__all__ = ["generator", "released", "teacher"]
