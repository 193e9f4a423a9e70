import itertools
from pathlib import Path

import pytest
from rich.style import Style

from rtun_core.errors import UsageError
from rtun_tui.palette import BLOCKS, GROUNDS, MONO, ROLES
from rtun_tui.strict_toml import parse_document
from rtun_tui.theme_files import load_theme, parse_theme, role_variables, style_text
from rtun_tui.theme_library import built_in_themes

FILES = sorted(built_in_themes().glob("*.toml"))
THEMES = {file.stem: load_theme(file) for file in FILES}
COLOURED = [name for name, theme in THEMES.items() if theme.colour]

QUIET = {"muted", "header", "column-title", "state-idle", "plot-axis", "event-debug", "event-time", "hint"}
UNREAD = {"border", "key-off"}  # a frame, and what cannot be used now

SMALL = """\
name = "small"
dark = true
[colours]
night = "#101010"
[roles]
background = "night"
text = "#F0F0F0"
accent = "#80c0ff bold"
cursor = "#ffffff on #203040 bold"
"""


def small(*lines, without=""):
    text = "\n".join(line for line in SMALL.splitlines() if not without or not line.startswith(without))
    return parse_theme(parse_document("small.toml", "\n".join([text, *lines, ""])))


def luminance(colour):
    parts = [part / 255 for part in colour]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    """Ratio of WCAG 2, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def ink(palette, role):
    return palette.style(role).color.triplet


def ground(palette, role):
    return palette.style(role).bgcolor.triplet


@pytest.fixture(params=COLOURED)
def palette(request):
    return THEMES[request.param].to_palette()


# -- the themes that come with rtun


def test_the_house_themes_are_there():
    assert {"rtun-dark", "rtun-light", "high-contrast", "colour-blind", "mono"} <= set(THEMES)
    assert {name for name, theme in THEMES.items() if not theme.dark} >= {"rtun-light"}
    assert all(theme.name == name and theme.about for name, theme in THEMES.items())


@pytest.mark.parametrize("name", COLOURED)
def test_ours_give_every_role_themselves(name):
    assert set(THEMES[name].styles) == {role.name for role in ROLES}


def test_text_can_be_read(palette):
    for role in {role.name for role in ROLES} - GROUNDS - BLOCKS - UNREAD:
        for under in GROUNDS:
            assert contrast(ink(palette, role), ground(palette, under)) >= 4.5, (role, under)


def test_what_is_off_can_be_seen_and_is_quieter_than_what_is_on(palette):
    behind = ground(palette, "background")
    off, muted, text = (contrast(ink(palette, role), behind) for role in ("key-off", "muted", "text"))
    assert 3 <= off < muted < text


def test_frames_are_there_but_calm(palette):
    behind = ground(palette, "background")
    assert contrast(ink(palette, "border"), behind) >= 1.5
    assert contrast(ink(palette, "border-focus"), behind) > contrast(ink(palette, "border"), behind)


def test_text_on_its_own_ground_can_be_read(palette):
    for role in BLOCKS:
        assert contrast(ink(palette, role), ground(palette, role)) >= 4.5, role


def test_cells_of_the_row_under_the_cursor_can_be_read(palette):
    for role in {role.name for role in ROLES} - GROUNDS - BLOCKS - UNREAD:
        least = 3 if role in QUIET else 4.5
        for under in ("cursor", "cursor-idle"):
            assert contrast(ink(palette, role), ground(palette, under)) >= least, (role, under)


def test_the_row_under_the_cursor_differs_from_the_background(palette):
    grounds = [ground(palette, role) for role in ("background", "cursor", "cursor-idle")]
    assert len(set(grounds)) == 3
    assert palette.style("cursor").bold  # not only by colour


def test_high_contrast_goes_further():
    palette = THEMES["high-contrast"].to_palette()
    for role in {role.name for role in ROLES} - GROUNDS - BLOCKS:
        assert contrast(ink(palette, role), ground(palette, "background")) >= 7, role


def test_mono_is_the_palette_for_no_colour():
    assert THEMES["mono"].to_palette() == MONO


# Machado, Oliveira and Fernandes 2009, complete loss of one kind of cone, on linear RGB.
SIGHTS = {
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
PLAIN = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def seen(colour, matrix):
    """CIE Lab of a colour through the eyes of someone."""
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in (c / 255 for c in colour)]
    red, green, blue = (
        min(1, max(0, sum(a * b for a, b in zip(row, linear, strict=True)))) for row in matrix
    )
    xyz = (
        (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047,
        0.2126729 * red + 0.7151522 * green + 0.0721750 * blue,
        (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("sight", [None, *SIGHTS])
def test_states_differ_for_every_kind_of_sight(sight):
    palette = THEMES["colour-blind"].to_palette()
    matrix = SIGHTS.get(sight, PLAIN)
    for roles in (
        ("state-up", "state-warn", "state-bad", "state-idle"),
        ("plot-up", "plot-down", "plot-loss"),
    ):
        for one, other in itertools.combinations(roles, 2):
            pair = zip(seen(ink(palette, one), matrix), seen(ink(palette, other), matrix), strict=True)
            assert sum((a - b) ** 2 for a, b in pair) ** 0.5 >= 20, (one, other)


# -- Textual's side


def test_textual_takes_the_theme(palette):
    theme = THEMES[palette.name].to_textual()
    variables = theme.to_color_system().generate()
    assert (theme.name, theme.dark) == (palette.name, palette.dark)
    assert variables["background"].lower() == ground(palette, "background").hex
    assert variables["block-cursor-background"] == ground(palette, "cursor").hex
    assert theme.variables["rtun-state-warn"] == ink(palette, "state-warn").hex
    assert theme.variables["rtun-cursor-ground"] == ground(palette, "cursor").hex
    assert not [name for name, value in variables.items() if "ansi" in value]


def test_textual_gets_no_colour_from_mono():
    theme = THEMES["mono"].to_textual()
    variables = theme.to_color_system().generate()
    assert theme.ansi
    assert {value.split()[0] for value in variables.values() if "ansi" in value} == {"ansi_default"}
    assert not [name for name, value in variables.items() if value.startswith("#")]


def test_both_kinds_have_the_same_variables():
    coloured, plain = (THEMES[name].to_textual().variables for name in ("rtun-dark", "mono"))
    assert {name for name in coloured if name.startswith("rtun-")} == {
        name for name in plain if name.startswith("rtun-")
    }
    assert set(role_variables(MONO).values()) == {"ansi_default"}


# -- the loader


def test_what_a_file_says():
    theme = small("state-bad = '#FF8080 underline'")
    assert (theme.name, theme.about, theme.dark, theme.colour) == ("small", "", True, True)
    assert theme.styles["background"] == Style(bgcolor="#101010")
    assert theme.styles["cursor"] == Style(color="#ffffff", bgcolor="#203040", bold=True)
    assert theme.styles["state-bad"] == Style(color="#ff8080", underline=True)


def test_roles_left_out_take_the_look_of_their_base():
    palette = small("state-bad = '#ff8080'").to_palette()
    assert palette.style("plot-loss") == Style(color="#ff8080")
    assert palette.style("event-error") == Style(color="#ff8080")
    assert palette.style("surface") == palette.style("background")
    assert palette.style("border-focus") == palette.style("accent")
    assert palette.style("hint") == palette.style("text")
    assert small().to_textual().to_color_system().generate()


def test_without_colours():
    theme = parse_theme(parse_document("f", 'name = "bare"\ncolour = false\n[roles]\nmark = "bold"'))
    palette = theme.to_palette()
    assert not palette.colour
    assert palette.style("mark") == Style(bold=True)
    assert palette.style("cursor") == Style()


@pytest.mark.parametrize("name", THEMES)
def test_values_are_written_as_they_are_read(name):
    theme = THEMES[name]
    roles = [f'{role} = "{style_text(role, style)}"' for role, style in theme.styles.items()]
    head = [f'name = "{name}"', f"colour = {str(theme.colour).lower()}", "[roles]"]
    again = parse_theme(parse_document("again", "\n".join(head + roles)))
    assert dict(again.styles) == dict(theme.styles)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("colors = 1", "small.toml:10: roles.colors: unknown key"),
        ("state-upp = 'night'", "small.toml:10: roles.state-upp: unknown key; did you mean state-up?"),
        ("muted = 3", "small.toml:10: roles.muted: must be a text, not a whole number"),
        ("muted = '#12345'", "small.toml:10: roles.muted: '#12345' is neither #rrggbb nor a name"),
        ("muted = 'nigt'", "did you mean night?"),
        ("muted = 'red'", "roles.muted: 'red' is neither"),
        ("muted = 'night night'", "roles.muted: 'night' is one word too many"),
        ("muted = 'night on night'", "roles.muted: takes no background"),
        ("title-focus = 'night on'", "roles.title-focus: 'on' needs a colour after it"),
        ("title-focus = 'on night on night'", "'on' is one word too many"),
        ("surface = 'night bold'", "roles.surface: must be exactly one colour"),
        ("surface = ''", "roles.surface: must be exactly one colour"),
        ("[extra]", "small.toml:10: extra: unknown key; known are name, about"),
    ],
)
def test_mistakes_are_named(line, message):
    with pytest.raises(UsageError) as caught:
        small(line)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("name", "small.toml:1: name is missing"),
        ("background", "small.toml:5: roles: the role background is missing"),
        ("cursor", "small.toml:5: roles: the role cursor is missing"),
    ],
)
def test_what_must_not_be_missing(without, message):
    with pytest.raises(UsageError) as caught:
        small(without=without)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "Bad Name"', "f:1: name: must be 1 to 40 of a-z, 0-9 and '-', not 'Bad Name'"),
        (f'name = "{"a" * 41}"', "f:1: name: must be 1 to 40"),
        ("name = 1", "f:1: name: must be a text, not a whole number"),
        ('name = "x"\ndark = "yes"', "f:2: dark: must be true or false, not a text"),
        ('name = "x"\n[colours]\nsky = "blue"', "f:3: colours.sky: must be a colour as #rrggbb, not 'blue'"),
        ('name = "x"\n[colours]\nbold = "#000000"', "f:3: colours.bold: is a word of the role syntax"),
        ('name = "x"\ncolour = false\n[roles]\ntext = "#ffffff"', "f:4: roles.text: names a colour, but"),
        ('name = "x"\nroles = 1', "f:2: roles: must be a table"),
        ('name = "x', "f:1: not valid TOML"),
    ],
)
def test_mistakes_at_the_top(text, message):
    with pytest.raises(UsageError) as caught:
        parse_theme(parse_document("f", text))
    assert str(caught.value).startswith(message)


def test_a_file_is_named_whole(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\ndark = 1\n')
    with pytest.raises(UsageError) as caught:
        load_theme(file)
    assert str(caught.value) == f"{file}:2: dark: must be true or false, not a whole number"
    assert isinstance(file, Path)
