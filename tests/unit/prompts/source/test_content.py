import pytest

from sidlsg.prompts.source.content import local_copy
from sidlsg.runtime.errors import ContentError, InputError
from unit.prompts.source.reading import one


def test_a_local_file_is_its_own_copy(write):
    path = write("a.txt", b"one\n")
    with local_copy(one(path)) as copy:
        assert copy == path
    assert path.exists()


def test_a_file_that_changed_or_is_gone(write):
    path = write("a.txt", b"one\n")
    file = one(path)
    path.write_bytes(b"one\ntwo\n")
    with pytest.raises(ContentError, match="had 4 bytes when it was found, and has 8 now"), local_copy(file):
        pass
    path.unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"), local_copy(file):
        pass
