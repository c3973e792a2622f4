"""Files of texts, one per line."""

import os

import pytest

from skfactors import Activations, TransformerFeatureExtractor
from skfactors.extraction.text.corpus import open_corpus


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_not_part_of_the_first_text(tiny_model, tmp_path, encoding):
    lines = ["the bank", "a left\ufeff park"]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n", encoding=encoding)
    store = TransformerFeatureExtractor(tiny_model, layers=1).extract_to(tmp_path / "lines.txt", tmp_path / "store")
    assert list(Activations.concat(store).texts) == lines


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", os.fspath("/dev/zero")):
        with pytest.raises(ValueError, match="is not a plain file"):
            open_corpus(tmp_path / path, "text")
    with pytest.raises(FileNotFoundError, match="no text file.*absent"):
        open_corpus(tmp_path / "absent", "text")


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("the bank\n" * 10)
    texts = iter(open_corpus(path, "text"))
    assert next(texts) == "the bank"
    with open(path, "a") as file:
        file.write("the river\n")
    with pytest.raises(ValueError, match="lines.txt.*was changed while it was read"):
        list(texts)


def test_a_streamed_dataset_without_the_column_is_refused_by_name():
    class Streamed:
        column_names = None

        def __iter__(self):
            yield {"words": "the bank"}

    with pytest.raises(ValueError, match="row 0 of the dataset has no column 'text'.*words"):
        list(open_corpus(Streamed(), "text"))
