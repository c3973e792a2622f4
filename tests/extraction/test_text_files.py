"""Files of texts, one per line."""

import pytest

from skfactors import Activations, TransformerFeatureExtractor


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_not_part_of_the_first_text(tiny_model, tmp_path, encoding):
    lines = ["the bank", "a left\ufeff park"]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n", encoding=encoding)
    store = TransformerFeatureExtractor(tiny_model, layers=1).extract_to(tmp_path / "lines.txt", tmp_path / "store")
    assert list(Activations.concat(store).texts) == lines
