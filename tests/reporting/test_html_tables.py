from kdad.reporting.html_tables import first_table

PAGE = """
<table><tbody><tr><td>no head</td></tr></tbody></table>
<table>
<thead><tr><th></th><th colspan="2">MKD</th></tr><tr><th>category</th><th>paper</th><th>ours</th></tr></thead>
<tbody><tr><th>a &amp; b</th><td><b>1</b>
 ± 2</td><td></td></tr></tbody>
<tfoot><tr><th>mean</th><td>3</td><td>4</td></tr></tfoot>
</table>
<table><thead><tr><th>second</th></tr></thead><tbody><tr><td>5</td></tr></tbody></table>
"""


def test_the_first_table_with_a_head_is_read():
    table = first_table(PAGE)
    assert list(table.columns) == ["category", "MKD paper", "MKD ours"]
    assert table.values.tolist() == [["a & b", "1 ± 2", ""], ["mean", "3", "4"]]


def test_a_page_without_tables_has_an_empty_one():
    assert first_table("<p>nothing</p>").empty
