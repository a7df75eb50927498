from kdad.reporting.file_names import printable, shorten_name


def test_long_names_lose_their_middle():
    assert shorten_name("abcdefghij", 10) == "abcdefghij"
    assert shorten_name("abcdefghijk", 10) == "abcde…hijk"  # 5 + 1 + 4
    assert len(shorten_name(f"{'x' * 300}.png")) == 22


def test_controls_are_replaced_and_letters_are_kept():
    assert printable("a\nb\t名ü .png") == "a\ufffdb\ufffd名ü .png"
