"""Every form of body that MLflow defines, and what is wrong with others."""

import json

import pytest

from kdad.errors import InputError
from kdad.serving.invocations import parse_invocation


@pytest.mark.parametrize(
    "content",
    [
        {"dataframe_split": {"columns": ["image"], "data": [["a"], ["b"]]}},
        {"dataframe_split": {"columns": ["image"], "index": [7, 9], "data": [["a"], ["b"]]}},
        {"dataframe_records": [{"image": "a"}, {"image": "b"}]},
        {"instances": [{"image": "a"}, {"image": "b"}]},
        {"instances": ["a", "b"]},
        {"inputs": {"image": ["a", "b"]}},
        {"inputs": ["a", "b"]},
    ],
)
@pytest.mark.parametrize(("params", "with_map"), [({}, False), ({"map": False}, False), ({"map": True}, True)])
def test_the_images_in_order(content, params, with_map):
    found = parse_invocation(json.dumps(content | {"params": params}).encode())
    assert (found.values, found.with_map) == (["a", "b"], with_map)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is no JSON"),
        (b'{"inputs": ["a", ', "cut short"),
        (b"\xff\xfe\xfd", "UTF-8"),
        (b"[" * 100_000, "is no JSON"),
        (b"[1]", "no JSON object"),
        (b"{}", "has 0 of 'dataframe_split'"),
        (b'{"inputs": ["a"], "instances": ["a"]}', "has 2 of"),
        (b'{"input": ["a"]}', "unknown field 'input'"),
        (b'{"inputs": ["a"], "params": {"maps": true}}', "'params' takes one name"),
        (b'{"inputs": ["a"], "params": {"map": 1}}', "'params' takes one name"),
        (b'{"inputs": ["a"], "params": []}', "'params' takes one name"),
        (b'{"inputs": []}', "table is empty"),
        (b'{"inputs": {}}', "no column 'image'"),
        (b'{"inputs": {"image": "a"}}', "is a list of images"),
        (b'{"inputs": "a"}', "a list of images"),
        (b'{"inputs": {"image": ["a"], "label": [1]}}', "more than the one column 'image': 'label'"),
        (b'{"instances": {"image": ["a"]}}', "is a list of images"),
        (b'{"instances": [{"picture": "a"}]}', "row 0: the table has no column 'image'"),
        (b'{"dataframe_split": {"columns": ["image"], "data": []}}', "table is empty"),
        (b'{"dataframe_split": {"columns": ["imag"], "data": [["a"]]}}', "did you mean 'imag'"),
        (b'{"dataframe_split": {"columns": ["image", "image"], "data": [["a", "b"]]}}', "twice the same"),
        (b'{"dataframe_split": {"columns": ["image"], "data": [["a"], ["b", "c"]]}}', "row 1: it is no list of one"),
        (b'{"dataframe_split": {"columns": ["image"], "data": ["a"]}}', "row 0: it is no list of one"),
        (b'{"dataframe_split": {"columns": ["image"]}}', "takes 'columns' and 'data'"),
        (b'{"dataframe_split": {"columns": "image", "data": []}}', "are lists"),
        (b'{"dataframe_split": [["a"]]}', "takes 'columns' and 'data'"),
        (b'{"dataframe_records": {"image": "a"}}', "is a list of rows"),
        (b'{"dataframe_records": [{"image": "a"}, "b"]}', "row 1: it is no object"),
        (b'{"dataframe_records": [{"image": "a"}, {"image": "a", "x": 1}]}', "row 1: the table has more than"),
    ],
)
def test_what_is_wrong_is_one_sentence(body, said):
    with pytest.raises(InputError, match=said) as caught:
        parse_invocation(body)
    assert "\n" not in str(caught.value)
