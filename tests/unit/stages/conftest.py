"""The fixtures that several folders' tests share."""

from unit.evaluate.judged import held_out, judge, judge_file, load, protocols
from unit.teacher.encoded import encoded, make_prompts, prompts, teacher_folder, texts

__all__ = [
    "encoded",
    "held_out",
    "judge",
    "judge_file",
    "load",
    "make_prompts",
    "prompts",
    "protocols",
    "teacher_folder",
    "texts",
]
