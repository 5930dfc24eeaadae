from xml.etree import ElementTree as ET

from mtad.base.plot import Line, Panel, svg

SVG = "{http://www.w3.org/2000/svg}"


def test_each_line_is_drawn_from_left_to_right_and_never_outside() -> None:
    times = [0.0, 30.0, 60.0]
    panels = [
        Panel("memory <MB>", [Line("worker 0", [1.0, 2.0, 4.0]), Line("worker 1", [4.0, 4.0, 4.0])]),
        Panel("nothing", [Line("all", [0.0, 0.0, 0.0])]),
    ]

    root = ET.fromstring(svg(times, panels))

    _, _, width, height = map(float, root.attrib["viewBox"].split())
    drawn = [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in root.iter(f"{SVG}polyline")
    ]
    assert len(drawn) == 3
    for points in drawn:
        assert len(points) == len(times)
        assert [x for x, _ in points] == sorted(x for x, _ in points)
        assert all(0 <= x <= width and 0 <= y <= height / len(panels) for x, y in points)
    rising, level = [y for _, y in drawn[0]], [y for _, y in drawn[1]]
    assert rising == sorted(rising, reverse=True)
    assert level == [rising[-1]] * 3
    assert "memory <MB>" in [text.text for text in root.iter(f"{SVG}text")]


def test_one_sample_is_a_plot_too() -> None:
    ET.fromstring(svg([5.0], [Panel("memory", [Line("worker 0", [1.0])])]))


def test_stacked_areas_stand_on_one_another() -> None:
    lines = [Line("below", [1.0, 2.0]), Line("above", [3.0, 2.0])]

    root = ET.fromstring(svg([0.0, 60.0], [Panel("people", lines, stacked=True)]))

    below, above = (
        [tuple(map(float, point.split(","))) for point in area.attrib["points"].split()]
        for area in root.iter(f"{SVG}polygon")
    )
    assert below[:2] == above[2:][::-1]
    # Both sums are 4, the top of the axis.
    assert above[0][1] == above[1][1] < below[1][1] < below[0][1]
    assert {"below", "above"} <= {text.text for text in root.iter(f"{SVG}text")}
