"""The fixtures that several folders' tests share."""

from unit.evaluate.judged import held_out, judge, judge_file, load, protocols

__all__ = ["held_out", "judge", "judge_file", "load", "protocols"]
