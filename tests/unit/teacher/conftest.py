"""The fixtures that several folders' tests share."""

from unit.distil.student.checkpoints import teacher
from unit.teacher.encoded import encoded, make_prompts, prompts, teacher_folder, texts

__all__ = ["encoded", "make_prompts", "prompts", "teacher", "teacher_folder", "texts"]
