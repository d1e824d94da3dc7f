import pytest

from sidlsg.prompts.held_out import read_held_out
from sidlsg.runtime.errors import InputError


def test_one_caption_a_line(tmp_path):
    path = tmp_path / "held_out.txt"
    path.write_bytes("\ufeffa red dog \r\n\r\n   \na «blue»\u2028cat".encode())
    assert read_held_out(path) == ["a red dog", "a «blue»\u2028cat"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "has no caption"), (b" \n\n", "has no caption"), ("caf\u00e9".encode("latin-1"), r"not UTF-8 \(byte 3\)")],
)
def test_unusable_lists_are_refused(tmp_path, content, message):
    path = tmp_path / "held_out.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_held_out(path)


def test_missing_list_and_folder(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(InputError, match="no held-out list at"):
            read_held_out(path)
