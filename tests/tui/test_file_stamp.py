import os

from rtun_tui.file_stamp import stamp


def test_a_file_that_was_written_has_another_stamp(tmp_path):
    file = tmp_path / "a.toml"
    nothing = stamp(file)
    file.write_text("a")
    os.utime(file, (1, 1))
    first = stamp(file)
    assert first != nothing
    assert stamp(file) == first
    os.utime(file, (2, 2))
    assert stamp(file) != first
    file.unlink()
    assert stamp(file) == nothing
