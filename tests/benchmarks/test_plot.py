from xml.etree import ElementTree as ET

from benchmarks.plot import Line, Panel, svg

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
