import json

from rtun_core.engine.recording_reader import RecordingReader
from tests.cli.children import TIME, end, ready


def test_json_on_standard_output_alone(process):
    child = process("json=True, quiet=True")
    first, second = json.loads(child.stdout.readline()), json.loads(child.stdout.readline())
    child.terminate()
    status, out, err = end(child)
    assert (first["type"], second["type"]) == ("engine.started", "service.listening")
    assert json.loads(out)["type"] == "engine.stopping"
    assert (status, err) == (0, "")


def test_a_reader_that_goes_away_does_not_end_the_service(process):
    child = process("json=True")
    child.stdout.readline()
    child.stdout.close()
    ready(child)
    child.terminate()
    _out, err = child.communicate(timeout=TIME)
    assert child.returncode == 0
    assert "stopping: SIGTERM" in err
    assert "Traceback" not in err


def test_a_recording_is_closed_on_a_signal(process, tmp_path):
    path = tmp_path / "x.rec"
    child = process(f"record=__import__('pathlib').Path({str(path)!r})")
    ready(child)
    child.terminate()
    assert end(child)[0] == 0
    assert list(tmp_path.iterdir()) == [path]
    reader = RecordingReader(path)
    types = [type(each.event).__name__ for each in reader.events(0, float("inf"))]
    reader.close()
    assert types == ["EngineStarted", "ServiceListening", "EngineStopping"]


def test_what_is_no_recording_ends_the_start(process, tmp_path):
    (tmp_path / "x.rec").write_text("something else")
    child = process(f"record=__import__('pathlib').Path({str(tmp_path / 'x.rec')!r})")
    status, _, err = end(child)
    assert status == 1  # the script has no main that knows exit statuses
    assert "UsageError: --record: " in err
    assert (tmp_path / "x.rec").read_text() == "something else"


def test_quiet_says_nothing(process):
    child = process("quiet=True, json=True")
    child.stdout.readline()
    child.terminate()
    assert end(child)[2] == ""
