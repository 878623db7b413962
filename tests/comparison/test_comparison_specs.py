"""Models with overrides are read as data."""

import pytest

from recbole_evcf.comparison.plan import parse_models


def read(text):
    return [(entry.label, entry.model, entry.settings) for entry in parse_models(text)]


def test_plain_names():
    assert read(" Pop , EASE") == [("Pop", "Pop", {}), ("EASE", "EASE", {})]


def test_commas_in_brackets_and_quotes_part_nothing():
    text = "A,A[mlp_hidden_size=[600,600], likelihood=bernoulli],A[x={'a': [1, (2, 3)]},y='],[']"
    assert read(text) == [
        ("A", "A", {}),
        (
            "A[mlp_hidden_size=[600,600], likelihood=bernoulli]",
            "A",
            {"mlp_hidden_size": [600, 600], "likelihood": "bernoulli"},
        ),
        ("A[x={'a': [1, (2, 3)]}, y='],[']", "A", {"x": {"a": [1, (2, 3)]}, "y": "],["}),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5", 5),
        ("True", True),
        ("true", True),
        ("None", None),
        ("~", None),
        ("{SG: [1, 2]}", {"SG": [1, 2]}),
        ("Adam W", "Adam W"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
    ],
)
def test_values_are_literals_or_yaml(text, value):
    (entry,) = parse_models(f"A[key={text}]")
    assert entry.settings == {"key": value}
    assert type(entry.settings["key"]) is type(value)


def test_no_yaml_tag_makes_an_object():
    with pytest.raises(ValueError, match="cannot read the value"):
        parse_models("A[key=!!python/object/apply:os.getcwd {}]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing before or behind a comma"),
        ("A,,B", "nothing before or behind a comma"),
        ("A[x=1", "closing ] is missing"),
        ("A[x=[1,2]", "closing ] is missing"),
        ("A]x=1[", "closes no bracket"),
        ("A[x=(1]]", "closes no bracket"),
        ("A[x='1]", "closing ' is missing"),
        ("A[x]", "write key=value"),
        ("A[1x=1]", "write key=value"),
        ("A[x=1,x=2]", "gives x twice"),
        ("A[x=1]B", "Name or Name"),
        ("A[x=1][y=2]", "Name or Name"),
        ("[x=1]", "Name or Name"),
        ("A,B,A", "names A twice"),
        ("A[x=1],A[x= 1]", "twice"),
    ],
)
def test_what_cannot_be_read_is_named(text, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        parse_models(text)
