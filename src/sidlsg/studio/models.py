"""The models of the page: the students that were chosen, and their teacher."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from sidlsg.bundled.domain import Domain
from sidlsg.bundled.domains import domain_of_size
from sidlsg.distil.student.folder import noise_scale
from sidlsg.runtime.errors import InputError, SidlsgError
from sidlsg.stages.evaluate import student_settings
from sidlsg.studio.generator import Generator, Sample
from sidlsg.studio.sources import FoundStudent, find_teacher, find_version
from sidlsg.studio.turns import Turns
from sidlsg.teacher.setting import Setting

KEPT = 2
"""Students that stay loaded; another one is loaded again when somebody needs it."""


class ChosenStudent:
    """A loaded student, which samples up to any of its steps."""

    def __init__(self, found: FoundStudent, turns: Turns) -> None:
        self.found = found
        self.generator = Generator(found.folder, found.record.digest, turns, first=True)
        scheduler = self.generator.sampler.pipeline.scheduler
        self._settings = list(student_settings(found.record, noise_scale(scheduler)).values())

    @property
    def steps(self) -> int:
        """K."""
        return len(self._settings)

    @property
    def domain(self) -> Domain | None:
        """The bundled domain whose captions it knows, by its images' side, as `sidlsg evaluate` decides it."""
        return domain_of_size(self.generator.sampler.image_size)

    def sample(self, prompt: str, seeds: Sequence[int], steps: int) -> Sample:
        """Sample up to a step; raises as `Generator`."""
        return self.generator(prompt, seeds, self._settings[steps - 1])


class Models:
    """Students by the digests of their records, and one teacher."""

    def __init__(
        self,
        first: FoundStudent,
        scratch: Path,
        *,
        tracking_uri: str = "",
        teacher: str = "",
        layout: str = "",
        variant: str = "",
    ) -> None:
        """Args:
        first: the student that the page begins with; it is loaded now.
        scratch: folder for the files of versions.
        tracking_uri: of the registry whose versions may be chosen; empty for none.
        teacher: URI of the student's teacher; empty to look for it, or to do without. It is loaded when it is needed.
        layout: see `checked_teacher`; so is `variant`.

        Raises:
            InputError: the student cannot be loaded, or the given teacher is not its own.
        """
        self.first, self.tracking_uri, self._scratch = first, tracking_uri, scratch
        self.without_teacher = ""
        """Why there is no teacher; empty where there is one."""
        self._teacher_folder, self._teacher_sha256 = Path(), ""
        try:
            self._teacher_folder, self._teacher_sha256 = find_teacher(teacher, first, layout, variant)
        except SidlsgError as error:
            if teacher:
                raise
            self.without_teacher = str(error)
        self._teacher: Generator | None = None
        self._turns = Turns()
        self.found = {first.record.digest: first}
        """Students that were chosen, loaded or not."""
        self._students: OrderedDict[str, ChosenStudent] = OrderedDict()
        self._lock = threading.Lock()
        self._seconds: dict[tuple[str, int, int], float] = {}
        self.student(first.record.digest)

    def choose(self, name: str) -> ChosenStudent:
        """Load the first student by its name, or a version of the registry; raises as `find_version`."""
        found = self.first if name == self.first.name else find_version(name, self.tracking_uri, self._scratch)
        self.found.setdefault(found.record.digest, found)
        return self.student(found.record.digest)

    def student(self, sha256: str) -> ChosenStudent:
        """A student that was chosen."""
        with self._lock:
            if sha256 not in self._students:
                while len(self._students) >= KEPT:
                    self._students.popitem(last=False)
                self._students[sha256] = ChosenStudent(self.found[sha256], self._turns)
            self._students.move_to_end(sha256)
            return self._students[sha256]

    def sample_student(self, sha256: str, prompt: str, seeds: Sequence[int], steps: int) -> Sample:
        """Sample a chosen student up to a step; raises as `Generator`."""
        sample = self.student(sha256).sample(prompt, seeds, steps)
        self._seconds[sha256, steps, len(seeds)] = sample.seconds
        return sample

    def last_seconds(self, sha256: str, steps: int, count: int) -> float | None:
        """The time of a student's last sampling of so many images up to that step; None before the first."""
        return self._seconds.get((sha256, steps, count))

    def sample_teacher(self, sha256: str, prompt: str, seeds: Sequence[int], setting: Setting) -> Sample:
        """Sample the teacher of a chosen student.

        Raises:
            InputError: its teacher is not known.
            NotFiniteError: an image is not finite.
        """
        if self.found[sha256].record.teacher_sha256 != self._teacher_sha256:
            raise InputError(self.without_teacher or "this student was distilled from another teacher")
        if self._teacher is None:
            self._teacher = Generator(self._teacher_folder, self._teacher_sha256, self._turns, first=False)
        return self._teacher(prompt, seeds, setting)
