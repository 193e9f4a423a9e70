"""The pictures of the console are those of this version: drawn again, they are the same to the byte."""

import os
import re
import time
from pathlib import Path

import pytest

import screenshots.console
from screenshots.console import draw, neutral_place, plain
from screenshots.scenes import SCENES

FOLDER = Path(screenshots.console.__file__).parent
ELSEWHERE = re.compile(r"url\((?!#)|@import|href=\"(?!#)|<script|<image")


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_picture_is_up_to_date(scene):
    drawn = await draw(scene)
    assert drawn == (FOLDER / f"{scene.name}.svg").read_text(encoding="utf-8"), (
        f"{scene.name}.svg is not what the console shows now: run `make screenshots`, look at it, commit it"
    )


def test_every_scene_has_both_pictures_and_no_other_is_there():
    names = {scene.name for scene in SCENES}
    assert {file.stem for file in FOLDER.glob("*.svg")} == names | {"demo", "status"}
    assert {file.stem for file in FOLDER.glob("*.png")} == names


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.svg")), ids=lambda file: file.name)
def test_pictures_load_nothing_from_elsewhere(file):
    assert not ELSEWHERE.findall(file.read_text(encoding="utf-8"))


def test_names_of_two_pictures_in_one_page_do_not_meet():
    picture = '<style>.terminal-1234-r1 {}</style><text class="terminal-1234-r1"/>'
    assert plain(picture, "one") == '<style>.rtun-one-r1 {}</style><text class="rtun-one-r1"/>\n'


def test_the_place_is_neutral_only_while_drawing(monkeypatch):
    monkeypatch.setenv("TZ", "XXX-5")
    monkeypatch.setenv("NO_COLOR", "1")
    time.tzset()
    with neutral_place():
        assert time.localtime(0).tm_hour == 0
        assert "NO_COLOR" not in os.environ
    assert time.localtime(0).tm_hour == 5
    assert os.environ["NO_COLOR"] == "1"
    monkeypatch.undo()
    time.tzset()
