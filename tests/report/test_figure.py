"""The style of figures, and what a report adds to it."""

import plotly.graph_objects as go

from recbole_evcf.report.figure import styled


def test_style_and_additions():
    figure = go.Figure(go.Bar(x=["a"], y=[1]))
    assert styled(figure, 320, margin={"l": 7}) is figure
    layout = figure.to_plotly_json()["layout"]
    assert layout["height"] == 320
    assert layout["margin"] == {"l": 7}
    assert layout["legend"]["orientation"] == "h"
