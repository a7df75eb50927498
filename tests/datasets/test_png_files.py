from kdad.datasets.png_files import PngFilesDataset


def test_the_folder_holds_just_the_pictures_that_were_saved_last(tmp_path):
    dataset = PngFilesDataset(filepath=str(tmp_path / "sheets"))
    assert not dataset.exists()
    dataset.save({"b.png": b"one", "a.png": b"two"})
    (tmp_path / "sheets/notes.txt").touch()
    assert dataset.load() == {"a.png": b"two", "b.png": b"one"}
    dataset.save({"a.png": b"three"})
    assert dataset.load() == {"a.png": b"three"}
    assert (tmp_path / "sheets/notes.txt").exists()
