"""The style of figures, and what a report adds to it."""

import plotly.graph_objects as go

from recbole_evcf.report.figure import drawn_text, styled


def test_style_and_additions():
    figure = go.Figure(go.Bar(x=["a"], y=[1]))
    assert styled(figure, 320, margin={"l": 7}) is figure
    layout = figure.to_plotly_json()["layout"]
    assert layout["height"] == 320
    assert layout["margin"] == {"l": 7}
    assert layout["legend"]["orientation"] == "h"


def test_foreign_text_begins_no_tag_and_keeps_its_quotes():
    assert drawn_text('<b>"it\'s" & &lt;') == '&lt;b&gt;"it\'s" &amp; &amp;lt;'
    assert drawn_text(0.5) == "0.5"
